//! Servers of one process that stop on signals: `several CONCURRENCY…`. It says where each listens, in this
//! order, and which has ended; it ends when all have. A client's line is the path of a file: the handler does not read
//! again before the file is there, and then answers `done`.
//!
//! A line of standard input makes something end meanwhile, `server` or `connection`, and is then answered `ended`.

use std::{
    error::Error,
    io::{self, BufRead, Write},
    marker::PhantomData,
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use sockserver::{
    Concurrency, HandlerResult, Reader, RequestHandler, Server, SocketServer, Writer, concurrency::Synchronous,
    request_handler,
};
use sockserver_tests::by_concurrency;

use crate::Ended;

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Work, allow_threads = true)]
struct Works<C: Concurrency + Default>(PhantomData<C>);

#[request_handler]
struct Work {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Work {
    fn handle(&mut self) -> HandlerResult {
        while let Some(path) = self.rfile.next_line()? {
            writeln!(self.wfile, "working")?;
            self.wfile.flush()?;
            while !Path::new(&path).exists() {
                thread::sleep(Duration::from_millis(1));
            }
            writeln!(self.wfile, "done")?;
        }
        Ok(())
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let servers =
        arguments.iter().map(|concurrency| by_concurrency!(concurrency, C => start::<C>().map_err(Into::into)));
    let servers = servers.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    thread::spawn(|| io::stdin().lock().lines().map_while(Result::ok).try_for_each(|what| end_another(&what)));
    for server in servers {
        server.join().expect("a server does not panic")?;
    }
    Ok(())
}

fn bind<C: Concurrency + Default>() -> io::Result<SocketServer<Works<C>>> {
    let server = Works::<C>(PhantomData).bind("127.0.0.1:0")?;
    server.shutdown_on_signals()?;
    Ok(server)
}

fn start<C: Concurrency + Default>() -> io::Result<thread::JoinHandle<io::Result<()>>> {
    let server = bind::<C>()?;
    let address = server.server_address().clone();
    println!("listening on {address}");
    Ok(thread::spawn(move || {
        server.serve_forever()?;
        println!("ended {address}");
        Ok(())
    }))
}

fn end_another(what: &str) -> io::Result<()> {
    match what {
        "server" => drop(bind::<Synchronous>()?),
        "connection" => {
            let (connection, client) = UnixStream::pair()?;
            drop(client);
            Works::<Synchronous>(PhantomData).serve_connection(connection)?;
        }
        _ => return Err(io::Error::other(format!("nothing is called {what}"))),
    }
    println!("ended {what}");
    Ok(())
}
