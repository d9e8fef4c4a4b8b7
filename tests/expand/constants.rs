use sockserver::*;
use std::time::Duration;

const MAX: usize = 100;
const TEN_MINUTES: Duration = Duration::from_secs(600);

#[request_handler(timeout = TEN_MINUTES, wbufsize = MAX)]
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
    socket(nodelay = Self::NODELAY),
    limits(connections = MAX, on_limit = OnLimit::Reject),
    timeouts(idle = TEN_MINUTES, shutdown = TEN_MINUTES),
)]
struct Chat;

impl Chat {
    const NODELAY: bool = true;
}
