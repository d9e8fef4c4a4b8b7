use sockserver::{HandlerResult, RequestHandler, Server, request_handler};

#[derive(Server)]
struct WithoutAttribute;

#[derive(Server)]
#[server]
struct Empty;

#[derive(Server)]
#[server = "tcp"]
struct Assigned;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading")]
struct WithoutHandler;

impl RequestHandler for WithoutHandler {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session)]
#[server(timeouts(idle = "1s"))]
struct Two;

#[derive(Server)]
#[server("tcp", pool, Session, limits("reject"))]
struct WithoutKeys;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", RequestHandlerClass = Session)]
struct OtherwiseNamed;

#[derive(Server)]
#[server(protocol = "tcp", timeouts(colour = "red"))]
struct Unknown;

#[derive(Server)]
#[server(transprt = "tcp", timeouts(colour = "red"), concurrency = "sync")]
struct Misspelt;

struct Handler;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Handler)]
struct WithoutImpl;

#[request_handler]
#[server(concurrency = "sync")]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
