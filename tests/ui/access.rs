//! Who is let in, and how often.

use sockserver::{HandlerResult, Network, Rate, RequestHandler, Server, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, access(allow = []))]
struct Nobody;

const NOBODY: &[Network] = &[];

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, access(allow = NOBODY))]
struct NobodyByConstant;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, access(allow = "10.0.0.0/8", deny = ["10.0.0.1/8"]))]
struct NoLists;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, access(denied = ["unix"], deny = ["unix"]))]
struct NoNetworks;

#[derive(Server)]
#[server(transport = "unix_datagram", concurrency = "sync", handler = Session, access(deny = ["10.0.0.0/8"]))]
struct NoAddresses;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, limits(rate = 20, rate_per_client = "20/sec"))]
struct NoRates;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, limits(rate = "0/s", rate_per_client = NEVER))]
struct Never;

const NEVER: Rate = Rate::per_hour(0);

#[derive(Server)]
#[server(transport = "unix_datagram", concurrency = "sync", handler = Session, limits(rate = "1/s", rate_per_client = "1/s"))]
struct NoClients;

const OFFICE: &[Network] = &[];
const SELDOM: Rate = Rate::per_hour(1);

#[derive(Server)]
#[server(
    transport = "unix",
    concurrency = "threading",
    handler = Session,
    access(allow = ["10.0.0.0/8", "::1"], deny = OFFICE),
    limits(rate = "20/s", rate_per_client = SELDOM),
)]
struct Right;

fn main() {}
