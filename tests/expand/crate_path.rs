mod framework {
    pub use sockserver;
}

use framework::sockserver::*;

#[request_handler]
#[server(crate = framework::sockserver, transport = "tcp", concurrency = "sync")]
struct Silent;

impl RequestHandler for Silent {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler(crate = framework::sockserver)]
#[server(transport = "tcp", concurrency = "sync")]
struct r#Loud;

impl RequestHandler for r#Loud {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
