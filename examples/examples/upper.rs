//! The classic: lines come in, and go out in upper case.
//!
//! ```console
//! $ cargo run --example upper
//! listening on 127.0.0.1:9999
//! ```
//!
//! ```console
//! $ printf 'hello\n' | nc 127.0.0.1 9999
//! HELLO
//! ```
//!
//! `nc` waits for more until Ctrl-C; with `-N` some versions end with their input. Another address is an argument,
//! as for all examples: `cargo run --example upper -- '[::1]:8000'`.
//!
//! One word makes it another server: with `transport = "unix"` the argument is a path, and `nc -U` the client; with
//! `concurrency = "sync"` the second client waits until the first has gone.

use std::{env, io, io::Write};

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
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

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = UpperServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
