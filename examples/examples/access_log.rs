//! An access log: a line on standard output for each connection, also if it is turned away.
//!
//! `cargo run --example access_log [ADDRESS]`, then `nc 127.0.0.1 9999`. Each line has the number of the connection, the
//! client, how long it took, how many bytes were received and sent, and how it ended.

use sockserver::{Event, HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};
use std::{env, io::Write};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading", limits(per_client = 10), hooks(event = log))]
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

fn log(_: &UpperServer, event: &Event<'_>) {
    match event {
        Event::Ended { connection, outcome, error: Some(error), .. } => println!("{connection} {outcome}: {error}"),
        Event::Ended { connection, outcome, .. } => println!("{connection} {outcome}"),
        Event::TurnedAway { connection, why, .. } => println!("{connection} turned away: {why}"),
        Event::Listening(_) | Event::Accepted(_) | Event::Started(_) => {}
        event => println!("{event:?}"),
    }
}

fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:9999".into());
    let server = UpperServer.bind(address.as_str())?;
    println!("listening on {}", server.server_address());
    server.shutdown_on_signals()?;
    server.serve_forever()
}
