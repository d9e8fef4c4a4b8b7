use sockserver::*;

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Default, Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Session,
    hooks(
        server_activate = Self::keep,
        verify_request = Self::is_local,
        handle_error = report,
        event = Self::on_event,
        handle_timeout = <Hooked as Clock>::tick,
        service_actions = Clock::tick,
        server_close = Hooked::close,
    ),
)]
struct Hooked;

impl Hooked {
    fn keep(&self, _: &ServerHandle) {}

    fn is_local(&self, _: &Stream, client_address: &Address) -> bool {
        client_address.ip().is_some_and(|ip| ip.is_loopback())
    }

    fn on_event(&self, _: &Event<'_>) {}

    fn close(&self) {}
}

fn report(_: &Hooked, _: &HandlerError, _: &Address) {}

trait Clock {
    fn tick(&self) {}
}

impl Clock for Hooked {}
