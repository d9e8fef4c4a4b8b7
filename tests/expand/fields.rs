use sockserver::*;
use std::sync::Arc;

#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Session)]
struct Chat;

#[request_handler(timeout = "30s", rbufsize = 16384, wbufsize = 0, max_line = "1MiB")]
struct Session {
    rfile: Reader,
    wfile: Writer,
    client_address: Address,
    local_address: Address,
    server: Arc<Chat>,
    #[default]
    nick: Option<String>,
    #[default(1)]
    next_id: u64,
    #[default(Vec::<(u8, u8)>::with_capacity(8))]
    history: Vec<(u8, u8)>,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
