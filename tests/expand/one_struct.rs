use sockserver::*;

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
pub struct Upper {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
