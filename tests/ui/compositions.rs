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
    concurrency = "threading",
    handler = Session,
    workers = 4,
    allow_threads = true,
    socket(max_packet_size = "8KiB", mode = 0o660, unlink = true),
)]
struct TcpThreading;

#[derive(Server)]
#[server(
    transport = "udp",
    concurrency = "sync",
    handler = Session,
    stack_size = "1MiB",
    socket(request_queue_size = 5, nodelay = true, keepalive = "1m"),
    limits(connections = 1, on_limit = "reject"),
    timeouts(idle = "5m", lifetime = "1h"),
)]
struct UdpSync;

#[derive(Server)]
#[server(transport = "unix_datagram", concurrency = "pool", handler = Session, limits(per_client = 2))]
struct UnixDatagramPool;

#[derive(Server)]
#[server(
    transport = "unix",
    concurrency = "pool",
    handler = Session,
    socket(allow_reuse_address = true, allow_reuse_port = true, only_v6 = true),
)]
struct UnixPool;

#[request_handler(rbufsize = "8KiB", wbufsize = 0, max_line = "1KiB")]
#[server(transport = "udp", concurrency = "sync", workers = 2)]
struct Packet;

impl RequestHandler for Packet {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

mod own {
    pub use sockserver::{concurrency::Synchronous, transport::Tcp};
}

/// Nothing is known of a type of the user's own: all keys may mean something.
#[derive(Server)]
#[server(
    transport = own::Tcp,
    concurrency = own::Synchronous,
    handler = Session,
    workers = 4,
    socket(mode = 0o660, max_packet_size = 1),
)]
struct Own;

fn main() {}
