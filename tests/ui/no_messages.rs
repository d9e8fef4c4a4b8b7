use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct Silent {
    wfile: Writer,
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct Numbers;

impl MessageHandler for Numbers {
    type Message = u64;

    fn message(&mut self, _: u64) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = String)]
struct Framed;

impl MessageHandler for Framed {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Unmarked)]
struct Plain;

struct Unmarked;

impl MessageHandler for Unmarked {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
