//! A server that stops on signals, in a process of its own: `signalled-server CONCURRENCY`. It prints its address and
//! answers each line in upper case.

use std::{error::Error, io::Write, marker::PhantomData};

use sockserver::{
    Concurrency, HandlerResult, Reader, RequestHandler, Server, Writer,
    concurrency::{Forking, Pool, Sync, Threading},
    request_handler,
};

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, workers = 2, handler = Upper)]
struct Lines<C: Concurrency>(PhantomData<C>);

#[request_handler]
struct Upper {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            writeln!(self.wfile, "{}", line.to_uppercase())?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("sync") => serve::<Sync>(),
        Some("threading") => serve::<Threading>(),
        Some("pool") => serve::<Pool>(),
        Some("forking") => serve::<Forking>(),
        other => Err(format!("there is no concurrency {other:?}").into()),
    }
}

fn serve<C: Concurrency>() -> Result<(), Box<dyn Error>> {
    let server = Lines::<C>(PhantomData).bind("127.0.0.1:0")?;
    server.shutdown_on_signals()?;
    println!("{}", server.server_address());
    Ok(server.serve_forever()?)
}
