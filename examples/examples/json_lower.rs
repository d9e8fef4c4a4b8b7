//! JSON values come in, and go out in lower case, one on each line. `exit` ends the connection.
//!
//! The server answers a value as soon as it is complete, with or without a line end. A bare number is complete when
//! something else follows, or nothing for a tenth of a second. What is no JSON, or not even text, is answered with an
//! error, and the talk goes on with the next line.
//!
//! ```console
//! $ cargo run --example json_lower
//! listening on 127.0.0.1:9999
//! ```
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! {"Greeting": ["HELLO", "World", 1]} "AND" [2]
//! {"greeting":["hello","world",1]}
//! "and"
//! [2]
//! HELLO
//! {"error":"expected value at line 1 column 1"}
//! exit
//! ```

use std::{
    env,
    io::{self, BufRead, Write},
    time::{Duration, Instant},
};

use serde_json::{Deserializer, Value, json};
use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};

/// How many bytes of a value are kept until the rest of it comes.
const MAX_INCOMPLETE: usize = 64 * 1024;

/// How long the rest of a number is waited for.
const PAUSE: Duration = Duration::from_millis(100);

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct JsonLower {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for JsonLower {
    fn handle(&mut self) -> HandlerResult {
        let mut input: Vec<u8> = Vec::new();
        let mut has_ended = false;
        while !has_ended {
            // A number may go on with what comes next, unless the client waits for its answer.
            let is_number = input.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
            self.rfile.set_deadline(is_number.then(|| Instant::now() + PAUSE));
            let is_complete = match self.rfile.fill_buf() {
                Ok(received) => {
                    let length = received.len();
                    input.extend_from_slice(received);
                    self.rfile.consume(length);
                    has_ended = length == 0;
                    has_ended
                }
                Err(error) if is_number && error.kind() == io::ErrorKind::TimedOut => true,
                Err(error) => return Err(error.into()),
            };

            let mut rest = input.trim_ascii_start();
            while let Some((value, after)) = split_value(rest, is_complete) {
                let answer = match value {
                    Ok(value) if value == "exit" => return Ok(()),
                    // What is no text in JSON, like `true` and `\n`, is in lower case anyway.
                    Ok(value) => value.to_string().to_lowercase(),
                    Err(error) => json!({ "error": error }).to_string(),
                };
                writeln!(self.wfile, "{answer}")?;
                rest = after.trim_ascii_start();
            }
            input.drain(..input.len() - rest.len());
        }
        Ok(())
    }
}

/// The value that the input starts with, or what is wrong with it; and the input after that. `None`: the value is not
/// complete, and more input may come.
fn split_value(input: &[u8], is_complete: bool) -> Option<(Result<Value, String>, &[u8])> {
    let mut values = Deserializer::from_slice(input).into_iter::<Value>();
    match values.next()? {
        Ok(value) if value.is_number() && values.byte_offset() == input.len() && !is_complete => None,
        Ok(value) => Some((Ok(value), &input[values.byte_offset()..])),
        Err(error) if error.is_eof() && !is_complete && input.len() < MAX_INCOMPLETE => None,
        Err(error) if error.is_eof() && !is_complete => {
            Some((Err(format!("a value that is not complete after {MAX_INCOMPLETE} bytes")), &[]))
        }
        Err(error) => {
            let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
            let (line, after) = input.split_at(end);
            let value = if line.trim_ascii() == b"exit" { Ok("exit".into()) } else { Err(error.to_string()) };
            Some((value, after))
        }
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = JsonLowerServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
