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
    transprt = "tcp",
    concurrency = "threding",
    handler = Session,
    conections = 10,
    timeouts(idel = "5m", colour = "red"),
    "socket",
)]
struct Misspelt;

#[derive(Server)]
#[server(transport = "tpc", concurrency = "coroutine", handler = Session, limits(on_limit = "drop"))]
struct Unknown;

#[derive(Server)]
#[server(
    transport = tcp,
    concurrency = "sync",
    concurrency = "pool",
    handler = Session,
    limits(connections = 1, connections = 2),
    limits(per_client = 1),
)]
struct Twice;

#[derive(Server)]
#[server(
    concurrency = "threading",
    handler = Session,
    idle = "5m",
    limits = 10,
    stack_size("1MiB"),
    socket(transport = "tcp", hooks(server_close = Self::close), nodelay),
    timeouts[poll = "1s"],
    hooks(handle_timeout),
    allow_threads,
)]
struct Misplaced;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    timeout = "5s",
    poll_interval = "500ms",
    max_children = 40,
    daemon_threads = true,
    address_family = AF_INET6,
    max_line = "1KiB",
    socket(disable_nagle_algorithm = true),
    hooks(process_request = Self::process, setup = Self::set_up),
)]
struct Pythonic;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    hooks(
        server_bind = Self::bind,
        get_request = Self::get,
        finish_request = Self::finish,
        shutdown_request = Self::shut,
        close_request = Self::close,
        handle = Self::handle,
        finish = Self::finish,
    ),
)]
struct Overriding;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, workers = 3, workers = 4)]
struct Meaningless;

#[request_handler(timeuot = "1s", transport = "tcp", idle = "1s", rbufsize)]
struct Handler;

#[request_handler(
    limits(connections = 1),
    hooks(event = Self::event),
    timeouts(idle = "1s"),
    server(transport = "tcp"),
)]
struct Misplacing;

fn main() {}
