//! What a public server uses is public too: the word that names it is underlined.

use sockserver::{BoxError, HandlerResult, MessageHandler, RequestHandler, Server, framing, message_handler, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session)]
pub struct Public;

#[derive(Default)]
struct Frame;

impl framing::Framing for Frame {
    fn scan(&mut self, _: &[u8]) -> Result<framing::Scan, BoxError> {
        unreachable!()
    }

    fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), BoxError> {
        unreachable!()
    }
}

#[message_handler(framing = Frame)]
#[server(transport = "tcp", concurrency = "threading")]
pub struct Message;

impl MessageHandler for Message {
    type Message = str;

    fn message(&mut self, _: &str) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
