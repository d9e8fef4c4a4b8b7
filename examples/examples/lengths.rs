//! Messages with their length in front, in four bytes: each comes back in reverse.
//!
//! ```console
//! $ cargo run --example lengths
//! listening on 127.0.0.1:9999
//! ```
//!
//! The same program is the client. Each of its words is a message:
//!
//! ```console
//! $ cargo run --example lengths -- client 127.0.0.1:9999 drawer 'hello there'
//! reward
//! ereht olleh
//! ```
//!
//! Another framing is one word, here and in the client: `"netstring"`, `"varint"`, `"line"`. What the messages are is up to
//! their type: here text, so that bytes which are no UTF-8 end their connection.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use sockserver::{
    FrameWriter, HandlerResult, MessageHandler, Server,
    framing::{self, DEFAULT_MAX_FRAME, Decoder, U32},
    message_handler,
};

#[message_handler(framing = "u32")]
#[server(transport = "tcp", concurrency = "threading")]
struct Reverse {
    answers: FrameWriter<U32>,
}

impl MessageHandler for Reverse {
    /// A `&str`, which borrows from the received bytes.
    type Message = str;

    fn message(&mut self, text: &str) -> HandlerResult {
        Ok(self.answers.send(&text.chars().rev().collect::<String>())?)
    }
}

/// Sends each word as a message, and prints the answers. A client that the library does not serve has the framing all the
/// same: it cuts what comes, in whichever pieces, into messages.
fn ask(address: &str, words: &[String]) -> io::Result<()> {
    let mut server = TcpStream::connect(address)?;
    let mut requests = Vec::new();
    let mut spare = Vec::new();
    for word in words {
        framing::encode(&U32, word, &mut spare, &mut requests)?;
    }
    // A thread of its own, so that many words cannot fill both directions, with each side waiting for the other to read.
    let mut sender = server.try_clone()?;
    let sending = thread::spawn(move || {
        sender.write_all(&requests)?;
        sender.shutdown(Shutdown::Write)
    });
    let mut decoder = Decoder::new(U32, DEFAULT_MAX_FRAME);
    let mut received = Vec::new();
    let mut room = [0; 4096];
    loop {
        let length = server.read(&mut room)?;
        received.extend_from_slice(&room[..length]);
        let mut position = 0;
        while let Some(answer) = decoder.next_frame(&received, &mut position)? {
            println!("{}", decoder.message::<str>(&received[answer])?);
        }
        if length == 0 {
            // A part of a message is an error.
            decoder.last_frame(&received, &mut position)?;
            return sending.join().map_err(|_| io::Error::other("the sending thread has panicked"))?;
        }
        received.drain(..position);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [client, address, words @ ..] = &arguments[..]
        && client == "client"
    {
        return Ok(ask(address, words)?);
    }
    let server = ReverseServer.bind(arguments.first().map_or("127.0.0.1:9999", String::as_str))?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}
