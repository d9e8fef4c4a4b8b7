use sockserver::*;

#[request_handler]
#[server(transport = "tcp", concurrency = "threading", name = Shouter)]
pub struct Upper {
    wfile: Writer,
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

fn main() {
    drop(Shouter.bind("127.0.0.1:0"));
}
