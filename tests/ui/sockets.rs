//! The options of sockets.

use sockserver::{HandlerResult, RequestHandler, Server, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Session,
    socket(
        keepalive_interval = 10,
        keepalive_retries = 128,
        user_timeout = "600h",
        defer_accept = "0s",
        receive_buffer = 0,
        send_buffer = "2GiB",
        dscp = 64,
        device = eth0,
    ),
)]
struct Wrong;

#[derive(Server)]
#[server(transport = "udp", concurrency = "sync", handler = Session, socket(user_timeout = "1s", device = ""))]
struct Packets;

#[derive(Server)]
#[server(
    transport = "unix",
    concurrency = "sync",
    handler = Session,
    socket(send_buffer = "1MiB", dscp = 46, device = "lo"),
)]
struct Local;

const DEVICE: &str = "lo";
const BUFFER: usize = 1 << 20;

#[derive(Server)]
#[server(
    transport = "unix_datagram",
    concurrency = "sync",
    handler = Session,
    socket(receive_buffer = BUFFER, send_buffer = "1MiB"),
)]
struct Buffered;

#[derive(Server)]
#[server(transport = "stream", concurrency = "sync", handler = Session, socket(receive_buffer = BUFFER, device = DEVICE))]
struct Right;

fn main() {}
