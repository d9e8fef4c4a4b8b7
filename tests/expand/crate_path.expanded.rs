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
/// The server that makes a new `Silent` for each request.
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default
)]
struct SilentServer;
#[automatically_derived]
impl framework::sockserver::Server for SilentServer {
    type Transport = framework::sockserver::transport::Tcp;
    type Concurrency = framework::sockserver::concurrency::Synchronous;
    type Handler = Silent;
    const OPTIONS: framework::sockserver::Options = framework::sockserver::Options::new();
}
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
/// The server that makes a new `r#Loud` for each request.
#[derive(
    ::core::clone::Clone,
    ::core::marker::Copy,
    ::core::fmt::Debug,
    ::core::default::Default
)]
struct LoudServer;
#[automatically_derived]
impl framework::sockserver::Server for LoudServer {
    type Transport = framework::sockserver::transport::Tcp;
    type Concurrency = framework::sockserver::concurrency::Synchronous;
    type Handler = r#Loud;
    const OPTIONS: framework::sockserver::Options = framework::sockserver::Options::new();
}
impl RequestHandler for r#Loud {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
