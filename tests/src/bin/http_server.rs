//! A server that speaks as much HTTP/1.1 as clients under load need: `http_server CONCURRENCY [OPTION=VALUE]… ADDRESS`.
//! It serves until it is signalled, is killed, or has lost its parent. In place of an address `-` stands for the
//! listening socket that its standard input is.
//!
//! It answers `hello`, with the number of its process in the field `Server`, and 413 without a look at the body where that is longer than a MiB. Once it is to shut down, each
//! answer says that it is the last one of its connection.

use std::{
    error::Error,
    io::{self, Read, Write},
    marker::PhantomData,
    os::{fd::AsFd, unix::process::parent_id},
    process,
    sync::Arc,
    time::Duration,
};

use sockserver::{
    Concurrency, HandlerResult, Options, Reader, RequestHandler, Server, ServerHandle, Writer,
    concurrency::{Forking, Pool, Synchronous, Threading},
    request_handler,
};

const MAX_BODY: u64 = 1 << 20;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Session<C>,
    hooks(service_actions = Self::follow_parent),
)]
struct Http<C: Concurrency + Default> {
    parent: u32,
    /// Also where a child of it handles the request.
    process: u32,
    concurrency: PhantomData<C>,
}

#[request_handler]
struct Session<C: Concurrency + Default> {
    rfile: Reader,
    wfile: Writer,
    handle: ServerHandle,
    server: Arc<Http<C>>,
}

impl<C: Concurrency + Default> Http<C> {
    fn follow_parent(&self) {
        if parent_id() != self.parent {
            process::exit(1);
        }
    }
}

/// What of a request matters here.
struct Head {
    length: u64,
    is_last: bool,
}

impl<C: Concurrency + Default> RequestHandler for Session<C> {
    fn handle(&mut self) -> HandlerResult {
        while let Some(Head { length, is_last }) = self.head()? {
            if length > MAX_BODY {
                let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                return Ok(write!(self.wfile, "{answer}")?);
            }
            io::copy(&mut (&mut self.rfile).take(length), &mut io::sink())?;
            let is_last = is_last || !self.handle.is_ready();
            let connection = if is_last { "close" } else { "keep-alive" };
            write!(
                self.wfile,
                "HTTP/1.1 200 OK\r\nServer: {}\r\nContent-Length: 5\r\nConnection: {connection}\r\n\r\nhello",
                self.server.process,
            )?;
            if is_last {
                break;
            }
        }
        Ok(())
    }
}

impl<C: Concurrency + Default> Session<C> {
    /// `None`: the client has ended.
    fn head(&mut self) -> Result<Option<Head>, sockserver::BoxError> {
        let mut head = Head { length: 0, is_last: false };
        if self.rfile.next_line()?.is_none() {
            return Ok(None);
        }
        loop {
            let line = self.rfile.next_line()?.ok_or("the head has no end")?.trim_end().to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", length)) => head.length = length.parse()?,
                Some(("connection", value)) => head.is_last = value == "close",
                Some(_) => {}
                None if line.is_empty() => return Ok(Some(head)),
                None => return Err("this is not HTTP".into()),
            }
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
    let server = Http::<C> { parent: parent_id(), process: process::id(), concurrency: PhantomData };
    let server = match address {
        "-" => server.with_listener(io::stdin().as_fd().try_clone_to_owned()?, options)?,
        address => server.bind_with(address, options)?,
    };
    server.shutdown_on_signals()?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}

fn with_option(mut options: Options, argument: String) -> Result<Options, Box<dyn Error>> {
    let (name, value) = argument.split_once('=').ok_or("an option is NAME=VALUE")?;
    match name {
        "connections" => options.limits.connections = Some(value.parse()?),
        "workers" => options.workers = Some(value.parse()?),
        "linger" => options.timeouts.linger = Duration::from_millis(value.parse()?),
        _ => return Err(format!("there is no option {argument}").into()),
    }
    Ok(options)
}
