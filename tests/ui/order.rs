use sockserver::{HandlerResult, RequestHandler, Server, request_handler};

#[server(transport = "tcp", concurrency = "sync")]
#[request_handler]
struct Upper;

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    UpperServer.bind("127.0.0.1:0")?.serve_forever()
}
