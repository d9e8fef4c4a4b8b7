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
    concurrency = "pool",
    handler = "Session",
    workers = "4",
    stack_size = 64KiB,
    socket(request_queue_size = 5_000_000_000, allow_reuse_address = "true", nodelay = 1, keepalive = 60),
    limits(connections = MAX, per_client = 2 * 10, on_limit = reject),
    timeouts(
        handle_request = "1.5s",
        idle = 5m,
        lifetime = "1 h",
        shutdown = "99999999999999999h",
        poll = "250us",
    ),
    hooks(server_close = "Self::close", verify_request = |_, _| true),
)]
struct Chat;

#[derive(Server)]
#[server(transport = "unix", concurrency = 5, handler = Session, socket(mode = 660, unlink = yes))]
struct Decimal;

#[derive(Server)]
#[server(transport = "unix_datagram", concurrency = "sync", handler = Session, socket(mode = 0o1777), limits(connections = 10usize))]
struct Sticky;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Session,
    timeouts(idle = "1h30m", lifetime = "1d", shutdown = 1m30s),
)]
struct Sums;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, socket(keepalive = "10h"))]
struct Long;

#[request_handler(timeout = 30, rbufsize = "8KB", wbufsize = -1, max_line = "8192")]
struct Python;

#[request_handler(timeout = , rbufsize = "8 KiB" wbufsize = 0, max_line = "17179869184GiB",, crate = "sockserver")]
struct Commas;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Session::new(),
    timeouts(idle = Duration::from_secs(5)),
    hooks(verify_request = Self::is_local()),
)]
struct Called;

fn main() {}
