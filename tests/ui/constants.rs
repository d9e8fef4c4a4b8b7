//! The compiler knows the value of a constant: it refuses what the macro refuses of a literal, in the same words.

use sockserver::{HandlerResult, OnLimit, RequestHandler, Server, request_handler};
use std::time::Duration;

const NONE: usize = 0;
const NO_TIME: Duration = Duration::ZERO;
const HALF_A_DAY: Duration = Duration::from_secs(12 * 60 * 60);
const SECONDS: u64 = 30;
const EVERYTHING: u32 = 0o1777;

#[request_handler(timeout = NO_TIME, rbufsize = NONE, wbufsize = NONE, max_line = Self::NO_LINE)]
struct Session;

impl Session {
    const NO_LINE: usize = 0;
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "pool", handler = Session, limits(connections = NONE))]
struct ZeroNumber;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "pool", handler = Session, timeouts(idle = Self::NO_TIME))]
struct ZeroTime;

impl ZeroTime {
    const NO_TIME: Duration = Duration::from_millis(0);
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, socket(keepalive = HALF_A_DAY))]
struct TooLong;

#[derive(Server)]
#[server(transport = "unix", concurrency = "sync", handler = Session, socket(mode = EVERYTHING))]
struct TooMuch;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "pool",
    handler = Session,
    workers = SECONDS,
    limits(on_limit = OnLimit::Drop, connections = MISSING),
    timeouts(idle = SECONDS, shutdown = 2 * NO_TIME, poll = NO_TIME + NO_TIME),
)]
struct Mistyped;

#[request_handler(timeout = SECONDS)]
struct Seconds;

fn main() {}
