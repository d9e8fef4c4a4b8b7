use sockserver::{HandlerResult, RequestHandler, Server, request_handler};

#[request_handler(timeout = "0ms", rbufsize = 0, wbufsize = 0, max_line = "0KiB")]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "pool",
    handler = Session,
    workers = 0,
    stack_size = 0,
    socket(keepalive = "0s"),
    limits(connections = 0, per_client = 0),
    timeouts(handle_request = "0s", idle = "0m", lifetime = "0h", shutdown = "0s", poll = "0ms"),
)]
struct Chat;

#[derive(Server)]
#[server(transport = "udp", concurrency = "sync", handler = Session, socket(max_packet_size = 0x0))]
struct Packets;

fn main() {}
