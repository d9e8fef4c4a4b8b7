//! A server in a process of its own: `line_server CONCURRENCY [OPTION=VALUE]… ADDRESS`. It serves until it is told to
//! stop, is killed, or has lost its parent.
//!
//! Each line is answered in upper case. Of some words a line does what they say: `stop` shuts the server down, `stats`
//! tells what it has done, `pid` tells the process that answers, `send N` answers with that many bytes, `fail TEXT`
//! fails, `reset elsewhere` fails with what another connection of the handler could have failed with.

use std::{
    error::Error,
    io::{self, Read, Write},
    marker::PhantomData,
    net::IpAddr,
    os::unix::process::parent_id,
    panic, process,
    time::Duration,
};

use sockserver::{
    Address, Concurrency, HandlerResult, OnLimit, Options, Reader, RequestHandler, Server, ServerHandle, Stream,
    Writer,
    concurrency::{Forking, Pool, Synchronous, Threading},
    request_handler,
};

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Session,
    hooks(verify_request = Self::is_welcome, service_actions = Self::follow_parent),
)]
struct Lines<C: Concurrency + Default> {
    parent: u32,
    concurrency: PhantomData<C>,
}

#[request_handler(timeout = "3s")]
struct Session {
    request: Stream,
    rfile: Reader,
    wfile: Writer,
    handle: ServerHandle,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("stop", _) => self.handle.shutdown(),
                ("stats", _) => writeln!(self.wfile, "{:?}", self.handle.stats())?,
                ("pid", _) => writeln!(self.wfile, "{}", process::id())?,
                ("fail", text) => return Err(text.into()),
                // Without the message of a panic.
                ("resume", text) => panic::resume_unwind(Box::new(text.to_owned())),
                ("exact", bytes) => self.rfile.read_exact(&mut vec![0; bytes.parse()?])?,
                ("hurry", milliseconds) => {
                    self.request.set_read_timeout(Some(Duration::from_millis(milliseconds.parse()?)))?;
                    self.rfile.next_line()?;
                }
                ("reset", _) => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
                ("send", bytes) => io::copy(&mut io::repeat(b'x').take(bytes.parse()?), &mut self.wfile).map(drop)?,
                _ => writeln!(self.wfile, "{}", line.to_uppercase())?,
            }
        }
        Ok(())
    }
}

impl<C: Concurrency + Default> Lines<C> {
    fn is_welcome(&self, _request: &Stream, client_address: &Address) -> bool {
        !matches!(client_address.ip(), Some(IpAddr::V4(ip)) if ip.octets().starts_with(&[127, 0, 1]))
    }

    fn follow_parent(&self) {
        if parent_id() != self.parent {
            process::exit(1);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let concurrency = arguments.next().ok_or("which concurrency?")?;
    let address = arguments.next_back().ok_or("which address?")?;
    let mut options = arguments.try_fold(Options::new(), with_option)?;
    if concurrency != "pool" {
        // It means nothing there.
        options.workers = None;
    }
    match concurrency.as_str() {
        "sync" => serve::<Synchronous>(options, &address),
        "threading" => serve::<Threading>(options, &address),
        "pool" => serve::<Pool>(options, &address),
        "forking" => serve::<Forking>(options, &address),
        _ => Err(format!("there is no concurrency {concurrency}").into()),
    }
}

fn serve<C: Concurrency + Default>(options: Options, address: &str) -> Result<(), Box<dyn Error>> {
    let server = Lines::<C> { parent: parent_id(), concurrency: PhantomData }.bind_with(address, options)?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}

fn with_option(mut options: Options, argument: String) -> Result<Options, Box<dyn Error>> {
    let (name, value) = argument.split_once('=').ok_or("an option is NAME=VALUE")?;
    let milliseconds = || value.parse().map(Duration::from_millis);
    match name {
        "connections" => options.limits.connections = Some(value.parse()?),
        "per_client" => options.limits.per_client = Some(value.parse()?),
        "on_limit" if value == "reject" => options.limits.on_limit = OnLimit::Reject,
        "workers" => options.workers = Some(value.parse()?),
        "idle" => options.timeouts.idle = Some(milliseconds()?),
        "lifetime" => options.timeouts.lifetime = Some(milliseconds()?),
        "shutdown" => options.timeouts.shutdown = milliseconds()?,
        "panic" if value == "abort" => panic::set_hook(Box::new(|_| process::abort())),
        "poll" => options.timeouts.poll = Some(milliseconds()?),
        _ => return Err(format!("there is no option {argument}").into()),
    }
    Ok(options)
}
