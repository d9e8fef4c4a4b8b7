use sockserver::*;

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Clone, Server)]
#[server(
    transport = "tcp",
    concurrency = "pool",
    handler = Session,
    workers = 8,
    stack_size = "256KiB",
    socket(request_queue_size = 128, nodelay = false, keepalive = "32767s", dscp = 46, device = "eth0"),
    limits(connections = 1_000, per_client = 20, rate = "200/s", rate_per_client = "100/m", on_limit = "reject"),
    access(allow = ["10.0.0.0/8"], deny = ["10.1.0.0/16", "fd00::/8"]),
    timeouts(handle_request = "0s", idle = "5m", lifetime = "1h", shutdown = "1500ms", poll = "250ms"),
)]
struct Chat;

#[derive(Default, Server)]
#[server(
    transport = "unix",
    concurrency = sockserver::concurrency::Synchronous,
    handler = Session,
    socket(mode = 0o660, unlink = false),
    proxy(trust = ["10.0.0.0/8", "fd00::/8", "unix"], versions = "2"),
)]
struct Local;
