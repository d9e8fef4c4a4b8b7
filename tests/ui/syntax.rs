//! What cannot be parsed is told where it is, and what follows it is read.

use sockserver::{HandlerResult, RequestHandler, Server, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", hooks(server_close = Self::), handler = crate::)]
struct OpenPath;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Vec<Session)]
struct OpenGeneric;

#[derive(Server)]
#[server(transport: "tcp", concurrency = "pool", handler = Session, workers = 2,, limits(connections: 10))]
struct Punctuation;

#[derive(Server)]
#[server(threading = true, transport = "tcp", concurrency = "sync", handler =)]
struct Assigned;

#[derive(Server)]
#[server(transport = "tcp" concurrency = "sync"; handler = Session; limits(connections = 1) timeouts(idle = "5s"))]
struct Commas;

#[derive(Server)]
#[server(transport: "tcp"; concurrency: "sync"; handler: Session)]
struct Semicolons;

fn main() {}
