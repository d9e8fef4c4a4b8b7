use sockserver::*;
use std::time::Duration;
const MAX: usize = 100;
const TEN_MINUTES: Duration = Duration::from_secs(600);
struct Session;
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session {
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        cx.set_timeout({
            const __VALUE: ::core::time::Duration = TEN_MINUTES;
            const _: () = ::sockserver::__private::refuse(
                ::core::matches!(__VALUE, it if it.as_millis() == 0),
                "`timeout` cannot be zero: leave it out for no timeout",
            );
            __VALUE
        })?;
        cx.set_wbufsize(MAX);
        ::core::result::Result::Ok(Self {})
    }
}
impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
#[derive()]
struct Chat;
#[automatically_derived]
impl ::sockserver::Server for Chat {
    type Transport = ::sockserver::transport::Tcp;
    type Concurrency = ::sockserver::concurrency::Threading;
    type Handler = Session;
    const OPTIONS: ::sockserver::Options = {
        let mut options = ::sockserver::Options::new();
        options.socket.nodelay = Self::NODELAY;
        options.limits.connections = ::core::option::Option::Some(MAX);
        options.limits.on_limit = OnLimit::Reject;
        options.timeouts.idle = ::core::option::Option::Some(TEN_MINUTES);
        options.timeouts.shutdown = TEN_MINUTES;
        options
    };
}
const _: () = ::sockserver::__private::refuse(
    ::core::matches!(
        < Chat as ::sockserver::Server > ::OPTIONS.limits.connections,
        ::core::option::Option::Some(it) if it == 0
    ),
    "`connections` cannot be zero: no client could be served; leave it out for the default",
);
const _: () = ::sockserver::__private::refuse(
    ::core::matches!(
        < Chat as ::sockserver::Server > ::OPTIONS.timeouts.idle,
        ::core::option::Option::Some(it) if it.as_millis() == 0
    ),
    "`idle` cannot be zero: leave it out for no timeout",
);
impl Chat {
    const NODELAY: bool = true;
}
