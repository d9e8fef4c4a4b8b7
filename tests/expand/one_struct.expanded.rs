use sockserver::*;
pub struct Upper {
    rfile: Reader,
    wfile: Writer,
}
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Upper
where
    Reader: ::sockserver::FromRequest<__S>,
    Writer: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <Reader as ::sockserver::FromRequest<
        __S,
    >>::NEEDS_SHARED_MEMORY
        || <Writer as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            rfile: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            wfile: <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
/// The server that makes a new `Upper` for each request.
#[allow(clippy::exhaustive_structs)]
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default
)]
pub struct UpperServer;
#[automatically_derived]
impl ::sockserver::Server for UpperServer {
    type Transport = ::sockserver::transport::Tcp;
    type Concurrency = ::sockserver::concurrency::Threading;
    #[cfg(doc)]
    type Handler = Upper;
    #[cfg(not(doc))]
    type Handler = ::sockserver::__private::Fitting<
        Upper,
        {
            let _ = <Upper as ::sockserver::RequestHandler>::handle;
            let _ = <Reader as ::sockserver::FromRequest<UpperServer>>::from_request;
            let _ = <Writer as ::sockserver::FromRequest<UpperServer>>::from_request;
            true
        },
    >;
    const OPTIONS: ::sockserver::Options = ::sockserver::Options::new();
}
impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
