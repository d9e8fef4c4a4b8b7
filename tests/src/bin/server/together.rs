//! Servers of one process, one for each address, which are handed over together on SIGUSR2: `together CONCURRENCY
//! ADDRESS[,ADDRESS]…`. Each line is answered in upper case, `pid` by the number of the process, and `stop` stops all.
//!
//! Each server of a successor begins to serve some time after the one before, and says so.

use std::{
    env,
    io::{self, BufReader, Read, Write},
    marker::PhantomData,
    process,
    sync::{Mutex, OnceLock},
    thread,
    time::Duration,
};

use signal_hook::{consts::SIGUSR2, low_level::pipe};
use sockserver::{Concurrency, HandlerResult, MessageHandler, Server, ServerHandle, Writer, message_handler};
use sockserver_tests::{by_concurrency, concurrencies::set_workers};

use crate::{Ended, HAS_PREDECESSOR, follow_parent, hand_over, place::Place};

static HANDING_OVER: Mutex<()> = Mutex::new(());

/// All servers of this process.
static SERVERS: OnceLock<Vec<ServerHandle>> = OnceLock::new();

#[derive(Server)]
#[server(
    transport = "stream",
    concurrency = C,
    handler = Session,
    hooks(service_actions = Self::on_turn),
    timeouts(poll = "20ms"),
)]
struct OneOf<C: Concurrency + Default>(PhantomData<C>);

impl<C: Concurrency + Default> OneOf<C> {
    fn on_turn(&self) {
        follow_parent();
    }
}

#[message_handler(framing = "line")]
struct Session {
    wfile: Writer,
}

impl MessageHandler for Session {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        match line {
            "pid" => writeln!(self.wfile, "{}", process::id())?,
            "stop" => SERVERS.get().into_iter().flatten().for_each(ServerHandle::shutdown),
            line => writeln!(self.wfile, "{}", line.to_uppercase())?,
        }
        Ok(())
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [concurrency, addresses] = arguments else { return Err("together CONCURRENCY ADDRESS[,ADDRESS]…".into()) };
    by_concurrency!(concurrency, C => serve_all::<C>(addresses))
}

fn serve_all<C: Concurrency + Default>(addresses: &str) -> Ended {
    let mut options = OneOf::<C>::OPTIONS;
    set_workers(&mut options);
    let bind = |address| OneOf::<C>(PhantomData).bind_with(Place::parse(address), options.clone());
    let servers = addresses.split(',').map(bind).collect::<io::Result<Vec<_>>>()?;
    let handles = SERVERS.get_or_init(|| servers.iter().map(|server| server.handle()).collect());
    let (requests, signalled) = io::pipe()?;
    pipe::register(SIGUSR2, signalled)?;
    thread::spawn(move || {
        BufReader::new(requests).bytes().for_each(|_| {
            let _lock = HANDING_OVER.lock();
            hand_over(handles);
        });
    });
    servers[0].notify_systemd()?;
    let mut running = Vec::new();
    for server in servers {
        if !running.is_empty() && env::var_os(HAS_PREDECESSOR).is_some() {
            thread::sleep(Duration::from_millis(100));
        }
        println!("listening on {}", server.server_address());
        running.push(server.spawn()?);
    }
    for server in running {
        server.wait()?;
    }
    // The servers end before the other thread has said what has become of the successor.
    drop(HANDING_OVER.lock());
    Ok(())
}
