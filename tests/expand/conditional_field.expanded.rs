use sockserver::{Reader, Writer, request_handler};
struct Session(#[cfg(not(unix))] Unknown, Reader, #[cfg(unix)] Writer);
#[cfg(not(unix))]
#[cfg(unix)]
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Unknown: ::sockserver::FromRequest<__S>,
    Reader: ::sockserver::FromRequest<__S>,
    Writer: ::sockserver::FromRequest<__S>,
{
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            0: <Unknown as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            1: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            2: <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
#[cfg(not(not(unix)))]
#[cfg(unix)]
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Reader: ::sockserver::FromRequest<__S>,
    Writer: ::sockserver::FromRequest<__S>,
{
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            0: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            1: <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
#[cfg(not(unix))]
#[cfg(not(unix))]
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Unknown: ::sockserver::FromRequest<__S>,
    Reader: ::sockserver::FromRequest<__S>,
{
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            0: <Unknown as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            1: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
#[cfg(not(not(unix)))]
#[cfg(not(unix))]
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Reader: ::sockserver::FromRequest<__S>,
{
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            0: <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
fn main() {}
