//! JSON values come in, and go out in lower case, one on each line. `exit` ends the connection.
//!
//! The server answers a value as soon as it is complete, with or without a line end; only a bare number is complete when
//! something follows it. What is no JSON, or not even text, is answered with an error, and the talk goes on with the next
//! line.
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
    io::{self, Write},
};

use serde_json::{Deserializer, Value, json};
use sockserver::{
    BoxError, HandlerResult, HangUp, MessageHandler, Server, Writer,
    framing::{FrameError, Framing, FromFrame, Scan},
    message_handler,
};

#[message_handler(framing = Values, max_frame = "64KiB")]
#[server(transport = "tcp", concurrency = "threading")]
struct JsonLower {
    wfile: Writer,
}

impl MessageHandler for JsonLower {
    type Message = Input;

    fn message(&mut self, input: Input) -> HandlerResult {
        match input {
            Input::Blank => Ok(()),
            Input::Exit => Err(HangUp.into()),
            // What is no text in JSON, like `true` and `\n`, is in lower case anyway.
            Input::Value(value) => Ok(writeln!(self.wfile, "{}", value.to_string().to_lowercase())?),
        }
    }

    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        let error = match error {
            FrameError::Malformed(cause) => cause.to_string(),
            error => error.to_string(),
        };
        Ok(writeln!(self.wfile, "{}", json!({ "error": error }))?)
    }
}

enum Input {
    Blank,
    Exit,
    Value(Value),
}

impl FromFrame for Input {
    type Message<'a> = Input;

    fn from_frame(frame: &[u8]) -> Result<Input, BoxError> {
        Ok(match frame.trim_ascii() {
            b"" => Input::Blank,
            b"exit" | b"\"exit\"" => Input::Exit,
            value => Input::Value(serde_json::from_slice(value)?),
        })
    }
}

/// One JSON value after the other.
#[derive(Default)]
struct Values;

/// How many bytes of a value are kept until the rest of it comes.
const MAX_INCOMPLETE: usize = 64 * 1024;

impl Framing for Values {
    const ENDS_WITH_STREAM: bool = true;

    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blank > 0 {
            return Ok(Scan::End { length: blank, header: 0, trailer: 0 });
        }
        let mut values = Deserializer::from_slice(bytes).into_iter::<Value>();
        let length = match values.next() {
            // A number may go on with what comes next.
            Some(Ok(value)) if value.is_number() && values.byte_offset() == bytes.len() => return Ok(Scan::More(0)),
            Some(Ok(_)) => values.byte_offset(),
            Some(Err(error)) if error.is_eof() && bytes.len() < MAX_INCOMPLETE => return Ok(Scan::More(0)),
            // The rest of the line is lost with what is wrong in it.
            _ => bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len()),
        };
        Ok(Scan::End { length, header: 0, trailer: 0 })
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        outgoing.extend_from_slice(payload);
        outgoing.push(b'\n');
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = JsonLowerServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
