use sockserver::{Address, Datagram, HandlerResult, RequestHandler, Server, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Session,
    hooks(
        verify_request = Self::is_known,
        handle_timeout = Self::on_timeout,
        service_actions = Self::on_turn,
        server_close = missing,
        event = Self::on_event,
    ),
)]
struct Chat;

impl Chat {
    fn is_known(&self, _: &Datagram, _: &Address) -> bool {
        true
    }

    fn on_timeout(&self, _: u8) {}

    fn on_event(&self, _: &Address) {}

    fn on_turn(&self) -> u8 {
        1
    }
}

fn main() {}
