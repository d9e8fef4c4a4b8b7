//! A JSON value comes in on each line, and goes out in lower case. `exit` ends the connection.
//!
//! A line that is no JSON, or not even text, is answered with an error, and the talk goes on.
//!
//! ```console
//! $ cargo run --example json_lower
//! listening on 127.0.0.1:9999
//! ```
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! {"Greeting": ["HELLO", "World", 1]}
//! {"greeting":["hello","world",1]}
//! HELLO
//! {"error":"expected value at line 1 column 1"}
//! exit
//! ```

use std::{
    env,
    io::{self, BufRead, Write},
};

use serde_json::{Value, json};
use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct JsonLower {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for JsonLower {
    fn handle(&mut self) -> HandlerResult {
        let mut line = Vec::new();
        // Bytes, as `next_line` would fail where they are no text.
        while self.rfile.read_until(b'\n', &mut line)? > 0 {
            if matches!(line.trim_ascii(), b"exit" | br#""exit""#) {
                break;
            }
            let answer = match serde_json::from_slice::<Value>(&line) {
                // What is no text in JSON, like `true` and `\n`, is in lower case anyway.
                Ok(value) => value.to_string().to_lowercase(),
                Err(error) => json!({ "error": error.to_string() }).to_string(),
            };
            writeln!(self.wfile, "{answer}")?;
            line.clear();
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = JsonLowerServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
