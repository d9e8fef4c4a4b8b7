//! A server that speaks as much HTTP/1.1 as clients under load need: `http CONCURRENCY [OPTION=VALUE]… ADDRESS`. It
//! serves until it is signalled. In place of an address `-` stands for the
//! listening socket that its standard input is.
//!
//! It answers `hello`, with the number of its process in the field `Server`, and 413 without a look at the body where that is longer than a MiB. Once it is to shut down, each
//! answer says that it is the last one of its connection.

use std::{
    io::{self, Read, Write},
    marker::PhantomData,
    os::fd::AsFd,
    process,
    sync::Arc,
};

use sockserver::{
    Concurrency, HandlerResult, Options, Reader, RequestHandler, Server, ServerHandle, Writer, request_handler,
};
use sockserver_tests::by_concurrency;

use crate::{Ended, follow_parent, options};

const MAX_BODY: u64 = 1 << 20;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Session<C>,
    hooks(service_actions = Self::follow_parent),
)]
struct Http<C: Concurrency + Default> {
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
        follow_parent();
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

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [concurrency, options @ .., address] = arguments else {
        return Err("http CONCURRENCY [OPTION=VALUE]… ADDRESS".into());
    };
    let options = options::parse(concurrency, options)?;
    by_concurrency!(concurrency, C => serve_http::<C>(options, address))
}

fn serve_http<C: Concurrency + Default>(options: Options, address: &str) -> Ended {
    let server = Http::<C> { process: process::id(), concurrency: PhantomData };
    let server = match address {
        "-" => server.with_listener(io::stdin().as_fd().try_clone_to_owned()?, options)?,
        address => server.bind_with(address, options)?,
    };
    server.shutdown_on_signals()?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}
