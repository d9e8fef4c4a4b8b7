use sockserver::*;
pub struct Upper {
    wfile: Writer,
}
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Upper
where
    Writer: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <Writer as ::sockserver::FromRequest<
        __S,
    >>::NEEDS_SHARED_MEMORY;
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        cx.set_max_frame(1024);
        ::core::result::Result::Ok(Self {
            wfile: <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
#[automatically_derived]
impl ::sockserver::Handler for Upper {
    type Runner = ::sockserver::__private::Fitting<
        ::sockserver::MessageLoop<Self, ::sockserver::framing::Line>,
        {
            ::sockserver::__private::is_message_handler::<Upper>();
            true
        },
    >;
    const HANDLES_MESSAGES: ::core::primitive::bool = true;
    fn into_messages(
        runner: Self::Runner,
    ) -> ::core::result::Result<
        ::std::boxed::Box<dyn ::sockserver::__private::Messages>,
        Self::Runner,
    > {
        ::core::result::Result::Ok(::std::boxed::Box::new(runner))
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
            let _ = <Writer as ::sockserver::FromRequest<UpperServer>>::from_request;
            true
        },
    >;
    const OPTIONS: ::sockserver::Options = ::sockserver::Options::new();
}
impl MessageHandler for Upper {
    type Message = String;
    fn message(&mut self, _line: String) -> HandlerResult {
        Ok(())
    }
}
