//! What others call otherwise, and what is only begun: the suggestion is what was meant.

use sockserver::{HandlerResult, MessageHandler, RequestHandler, Server, message_handler, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(
    transport = "my::Tcp",
    concurrency = "async",
    handler = Session,
    port = 80,
    stack_size = "64k",
    socket(reuse_port = true, tcp_nodelay = true, backlog = 5, mode = "660"),
    limits(max = 4),
    timeouts(read = "5s", write = "5s", idle = "1.5s"),
    access(allow = ["10.0.0.0/8" "::1"]),
    tls(versions = 1.3),
    hooks(on_event = Self::on_event, close = Self::close, error = Self::error),
)]
struct Elsewhere;

#[message_handler(framing = "json")]
struct Json;

#[message_handler(framing = "u16_be")]
struct BigEndian;

macro_rules! handles {
    ($($name:ident)*) => {
        $(impl MessageHandler for $name {
            type Message = str;

            fn message(&mut self, _: &str) -> HandlerResult {
                Ok(())
            }
        })*
    };
}

handles!(Json BigEndian);

fn main() {}
