//! Two servers of one process, which are handed over together on SIGUSR2: `pair ADDRESS,ADDRESS`. Each line is answered by
//! the number of the process. `stop` stops both.
//!
//! The second server of a successor begins to serve some time after the first one,
//! and says so.

use std::{
    env,
    io::{self, BufReader, Read, Write},
    process,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use signal_hook::{consts::SIGUSR2, low_level::pipe};
use sockserver::{HandlerResult, Reader, RequestHandler, Server, ServerHandle, Writer, request_handler};

use crate::{Ended, HAS_PREDECESSOR, follow_parent, hand_over};

type Handles = OnceLock<[ServerHandle; 2]>;

#[derive(Server)]
#[server(
    transport = "stream",
    concurrency = "threading",
    handler = Session,
    hooks(service_actions = Self::on_turn),
    timeouts(poll = "20ms"),
)]
struct Twin {
    both: Arc<Handles>,
}

impl Twin {
    fn on_turn(&self) {
        follow_parent();
    }
}

#[request_handler]
struct Session {
    rfile: Reader,
    wfile: Writer,
    server: Arc<Twin>,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.as_str() {
                "stop" => self.server.both.get().into_iter().flatten().for_each(ServerHandle::shutdown),
                _ => writeln!(self.wfile, "{}", process::id())?,
            }
        }
        Ok(())
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [addresses] = arguments else { return Err("pair ADDRESS,ADDRESS".into()) };
    let (first, second) = addresses.split_once(',').ok_or("two addresses")?;
    let both = Arc::<Handles>::default();
    let bind = |address: &str| Twin { both: both.clone() }.bind(address);
    let [first, second] = [bind(first)?, bind(second)?];
    let handles = both.get_or_init(|| [first.handle(), second.handle()]).clone();
    let (requests, signalled) = io::pipe()?;
    pipe::register(SIGUSR2, signalled)?;
    thread::spawn(move || BufReader::new(requests).bytes().for_each(|_| hand_over(&handles)));
    println!("listening on {}", first.server_address());
    let first = first.spawn()?;
    if env::var_os(HAS_PREDECESSOR).is_some() {
        thread::sleep(Duration::from_millis(100));
    }
    println!("listening on {}", second.server_address());
    second.serve_forever()?;
    first.wait()?;
    Ok(())
}
