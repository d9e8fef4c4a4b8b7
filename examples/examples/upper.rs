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
//! `concurrency = "sync"` the second client waits until the first has gone, and with `"event_loop"` thousands of clients need no
//! thread each.

use std::{env, io, io::Write};

use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct Upper {
    wfile: Writer,
}

impl MessageHandler for Upper {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = UpperServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
