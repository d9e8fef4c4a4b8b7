//! Lines in upper case again, by UDP: the handler is that of `upper`, word for word, and only the transport differs.
//!
//! A packet is a message, and what the `Writer` was given is sent back as one packet when the handler returns.
//!
//! ```console
//! $ cargo run --example udp_upper
//! listening on 127.0.0.1:9999
//! ```
//!
//! ```console
//! $ printf 'hello\n' | nc -u -w 1 127.0.0.1 9999
//! HELLO
//! ```

use std::{env, io, io::Write};

use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};

#[message_handler(framing = "line")]
#[server(transport = "udp", concurrency = "threading")]
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
