use sockserver::*;
use std::sync::Arc;
#[derive(Default)]
struct Chat;
#[automatically_derived]
impl ::sockserver::Server for Chat {
    type Transport = ::sockserver::transport::Tcp;
    type Concurrency = ::sockserver::concurrency::Threading;
    type Handler = Session;
    const OPTIONS: ::sockserver::Options = ::sockserver::Options::new();
}
struct Session {
    rfile: Reader,
    wfile: Writer,
    client_address: Address,
    local_address: Address,
    server: Arc<Chat>,
    nick: Option<String>,
    next_id: u64,
    history: Vec<(u8, u8)>,
}
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Reader: ::sockserver::FromRequest<__S>,
    Writer: ::sockserver::FromRequest<__S>,
    Address: ::sockserver::FromRequest<__S>,
    Arc<Chat>: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <Reader as ::sockserver::FromRequest<
        __S,
    >>::NEEDS_SHARED_MEMORY
        || <Writer as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY
        || <Address as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY
        || <Address as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY
        || <Arc<Chat> as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    #[allow(unreachable_code)]
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        cx.set_timeout(::core::time::Duration::from_secs(30))?;
        cx.set_rbufsize(16384);
        cx.set_wbufsize(0);
        cx.set_max_line(1048576);
        ::core::result::Result::Ok(Self {
            rfile: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            wfile: <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            client_address: <Address as ::sockserver::FromRequest<
                __S,
            >>::from_request(cx)?,
            local_address: <Address as ::sockserver::FromRequest<
                __S,
            >>::from_request(cx)?,
            server: <Arc<Chat> as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            nick: <Option<String> as ::core::default::Default>::default(),
            next_id: 1,
            history: Vec::<(u8, u8)>::with_capacity(8),
        })
    }
}
impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
