use sockserver::*;
struct Session(#[cfg(unix)] PeerCred, Reader, #[cfg(unix)] Writer);
#[cfg(unix)]
#[automatically_derived]
#[allow(deprecated)]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    PeerCred: ::sockserver::FromRequest<__S>,
    Reader: ::sockserver::FromRequest<__S>,
    Writer: ::sockserver::FromRequest<__S>,
{
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(
            Self(
                <PeerCred as ::sockserver::FromRequest<__S>>::from_request(cx)?,
                <Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?,
                <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            ),
        )
    }
}
#[cfg(not(unix))]
#[automatically_derived]
#[allow(deprecated)]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session
where
    Reader: ::sockserver::FromRequest<__S>,
{
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(
            Self(<Reader as ::sockserver::FromRequest<__S>>::from_request(cx)?),
        )
    }
}
fn main() {}
