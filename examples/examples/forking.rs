//! A process for each connection: a handler may panic, or bring its process down, and the server goes on.
//!
//! ```console
//! $ cargo run --example forking
//! listening on 127.0.0.1:9999
//! sockserver: request from 127.0.0.1:51966: handle panicked: the client has asked for it
//! sockserver: request from 127.0.0.1:51967: handle failed: the child process ended by itself: signal: 6 (SIGABRT)
//! ```
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! hello
//! process 4711: hello
//! panic
//! $ nc 127.0.0.1 9999
//! abort
//! $ nc 127.0.0.1 9999
//! hello
//! process 4713: hello
//! ```
//!
//! With `concurrency = "threading"`, a panic still ends one connection only, but `abort` ends them all.

use std::{
    env,
    io::{self, Write},
    process,
};

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "forking")]
struct Fragile {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Fragile {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.as_str() {
                "panic" => panic!("the client has asked for it"),
                "abort" => process::abort(),
                _ => writeln!(self.wfile, "process {}: {line}", process::id())?,
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = FragileServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
