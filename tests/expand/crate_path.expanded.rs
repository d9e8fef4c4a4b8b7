mod framework {
    pub use sockserver;
}
use framework::sockserver::*;
struct Silent;
#[automatically_derived]
impl<__S: framework::sockserver::Server> framework::sockserver::FromRequest<__S>
for Silent {
    fn from_request(
        _: &mut framework::sockserver::Context<'_, __S>,
    ) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {})
    }
}
/// The server that answers every request with a new `Silent`.
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default,
    framework::sockserver::Server
)]
#[server(
    handler = Silent,
    crate = framework::sockserver,
    transport = "tcp",
    concurrency = "sync"
)]
struct SilentServer;
impl RequestHandler for Silent {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
struct r#Loud;
#[automatically_derived]
impl<__S: framework::sockserver::Server> framework::sockserver::FromRequest<__S>
for r#Loud {
    fn from_request(
        _: &mut framework::sockserver::Context<'_, __S>,
    ) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {})
    }
}
/// The server that answers every request with a new `r#Loud`.
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default,
    framework::sockserver::Server
)]
#[server(
    crate = framework::sockserver,
    handler = r#Loud,
    transport = "tcp",
    concurrency = "sync"
)]
struct LoudServer;
impl RequestHandler for r#Loud {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
fn main() {}
