//! A server that stops on signals, in a process of its own: `signalled CONCURRENCY EARLIER ADDRESS`. It says where
//! it listens, and answers each line in upper case. So many servers of the process have ended before it is bound.
//! Without a concurrency and an address it says that they have ended, and waits for the end of its input.

use std::{
    io::{self, BufRead, Write},
    marker::PhantomData,
    net::IpAddr,
    thread,
    time::Duration,
};

use sockserver::{
    Address, Concurrency, HandlerResult, Options, Reader, RequestHandler, Server, SocketServer, Stream, Writer,
    concurrency::Synchronous, request_handler,
};
use sockserver_tests::{
    by_concurrency,
    either::{Either, UpperLines},
};

use crate::{Ended, options};

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Either<Upper, UpperLines>, hooks(verify_request = Self::is_welcome))]
struct Lines<C: Concurrency + Default>(PhantomData<C>);

#[request_handler]
struct Upper {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        loop {
            // A line that has begun is waited for, however long a busy machine takes.
            self.rfile.set_busy(false);
            let has_begun = !self.rfile.fill_buf()?.is_empty();
            self.rfile.set_busy(has_begun);
            let Some(line) = self.rfile.next_line()? else { return Ok(()) };
            writeln!(self.wfile, "{}", line.to_uppercase())?;
        }
    }
}

impl<C: Concurrency + Default> Lines<C> {
    /// Who comes from 127.0.1.0/24 is turned away, so slowly that the next one is there already.
    fn is_welcome(&self, _request: &Stream, client_address: &Address) -> bool {
        let is_welcome = !matches!(client_address.ip(), Some(IpAddr::V4(ip)) if ip.octets().starts_with(&[127, 0, 1]));
        if !is_welcome {
            thread::sleep(Duration::from_micros(500));
        }
        is_welcome
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let (earlier, server) = match arguments {
        [earlier] => (earlier, None),
        [concurrency, earlier, address] => (earlier, Some((concurrency, address))),
        _ => return Err("which concurrency, after how many others, and where?".into()),
    };
    for _ in 0..earlier.parse()? {
        drop(bind::<Synchronous>("127.0.0.1:0", Options::new())?);
    }
    let Some((concurrency, address)) = server else {
        println!("ended");
        return Ok(io::copy(&mut io::stdin(), &mut io::sink()).map(drop)?);
    };
    let options = options::parse(concurrency, &["workers=2".into()])?;
    by_concurrency!(concurrency, C => serve_signalled::<C>(address, options))
}

fn serve_signalled<C: Concurrency + Default>(address: &str, options: Options) -> Ended {
    let server = bind::<C>(address, options)?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}

fn bind<C: Concurrency + Default>(address: &str, options: Options) -> io::Result<SocketServer<Lines<C>>> {
    let server = Lines::<C>(PhantomData).bind_with(address, options)?;
    server.shutdown_on_signals()?;
    Ok(server)
}
