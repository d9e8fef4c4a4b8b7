use sockserver::{HandlerResult, MessageHandler, RequestHandler, Server, message_handler, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "event_loop")]
struct Whole;

impl RequestHandler for Whole {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "event_loop", handler = Whole, workers = 0, allow_threads = true)]
struct Wholes;

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "event_loop", limits(threads = 0))]
struct Message;

impl MessageHandler for Message {
    type Message = str;

    fn message(&mut self, _: &str) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Message, limits(threads = 9))]
struct Threads;

#[request_handler]
#[server(transport = "tcp", concurrency = "event_loop")]
struct Half;

impl MessageHandler for Half {
    type Message = str;

    fn message(&mut self, _: &str) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
