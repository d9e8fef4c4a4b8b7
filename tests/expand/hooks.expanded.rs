use sockserver::*;
struct Session;
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session {
    fn from_request(_: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {})
    }
}
impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
#[derive(Default)]
struct Hooked;
#[automatically_derived]
impl ::sockserver::Server for Hooked {
    type Transport = ::sockserver::transport::Tcp;
    type Concurrency = ::sockserver::concurrency::Synchronous;
    type Handler = Session;
    const OPTIONS: ::sockserver::Options = ::sockserver::Options::new();
    fn server_activate(&self, handle: &::sockserver::ServerHandle) {
        let hook: fn(&Self, &::sockserver::ServerHandle) = Self::keep;
        hook(self, handle)
    }
    fn verify_request(
        &self,
        request: &::sockserver::Request<Self>,
        client_address: &::sockserver::Address,
    ) -> ::core::primitive::bool {
        let hook: fn(
            &Self,
            &::sockserver::Request<Self>,
            &::sockserver::Address,
        ) -> ::core::primitive::bool = Self::is_local;
        hook(self, request, client_address)
    }
    fn handle_error(
        &self,
        error: &::sockserver::HandlerError,
        client_address: &::sockserver::Address,
    ) {
        let hook: fn(&Self, &::sockserver::HandlerError, &::sockserver::Address) = report;
        hook(self, error, client_address)
    }
    const EVENT: ::core::option::Option<fn(&Self, &::sockserver::Event<'_>)> = {
        let hook: fn(&Self, &::sockserver::Event<'_>) = Self::on_event;
        ::core::option::Option::Some(hook)
    };
    fn handle_timeout(&self) {
        let hook: fn(&Self) = <Hooked as Clock>::tick;
        hook(self)
    }
    fn service_actions(&self) {
        let hook: fn(&Self) = Clock::tick;
        hook(self)
    }
    fn server_close(&self) {
        let hook: fn(&Self) = Hooked::close;
        hook(self)
    }
}
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
