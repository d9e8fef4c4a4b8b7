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
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            rfile: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            wfile: <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
/// The server that answers every request with a new `Upper`.
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default,
    ::sockserver::Server
)]
#[server(handler = Upper, transport = "tcp", concurrency = "threading")]
pub struct UpperServer;
impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
fn main() {}
