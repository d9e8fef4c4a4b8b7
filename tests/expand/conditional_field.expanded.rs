use sockserver::*;
#[cfg(unix)]
struct Session(#[cfg(unix)] PeerCred, Reader, #[cfg(not(unix))] Writer);
#[cfg(unix)]
#[cfg(unix)]
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    PeerCred: ::sockserver::FromRequest<__S>,
    Reader: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <PeerCred as ::sockserver::FromRequest<
        __S,
    >>::NEEDS_SHARED_MEMORY
        || <Reader as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(
            Self(
                <PeerCred as ::sockserver::FromRequest<__S>>::from_request(cx)?,
                <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            ),
        )
    }
}
#[cfg(unix)]
#[cfg(not(unix))]
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Reader: ::sockserver::FromRequest<__S>,
    Writer: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <Reader as ::sockserver::FromRequest<
        __S,
    >>::NEEDS_SHARED_MEMORY
        || <Writer as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(
            Self(
                <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
                <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            ),
        )
    }
}
#[cfg(unix)]
/// The server that makes a new `Session` for each request.
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default
)]
struct SessionServer;
#[cfg(unix)]
#[automatically_derived]
impl ::sockserver::Server for SessionServer {
    type Transport = ::sockserver::transport::Unix;
    type Concurrency = ::sockserver::concurrency::Synchronous;
    #[cfg(doc)]
    type Handler = Session;
    #[cfg(not(doc))]
    type Handler = ::sockserver::__private::Fitting<
        Session,
        {
            let _ = <Session as ::sockserver::RequestHandler>::handle;
            #[cfg(unix)]
            let _ = <PeerCred as ::sockserver::FromRequest<SessionServer>>::from_request;
            let _ = <Reader as ::sockserver::FromRequest<SessionServer>>::from_request;
            #[cfg(not(unix))]
            let _ = <Writer as ::sockserver::FromRequest<SessionServer>>::from_request;
            true
        },
    >;
    const OPTIONS: ::sockserver::Options = ::sockserver::Options::new();
}
#[cfg(unix)]
impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
