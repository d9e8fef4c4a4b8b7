use sockserver::*;
use std::{marker::PhantomData, sync::Arc};
#[derive(Default)]
struct Shared<T>(
    T,
)
where
    T: Send + Sync + 'static;
#[automatically_derived]
impl<T> ::sockserver::Server for Shared<T>
where
    T: Send + Sync + 'static,
    Self: ::core::marker::Send + ::core::marker::Sync + 'static,
{
    type Transport = ::sockserver::transport::Unix;
    type Concurrency = ::sockserver::concurrency::Threading;
    type Handler = Session<T>;
    const OPTIONS: ::sockserver::Options = ::sockserver::Options::new();
}
struct Session<T: Send + Sync + 'static> {
    server: Arc<Shared<T>>,
    of: PhantomData<T>,
}
#[automatically_derived]
impl<T: Send + Sync + 'static, __S: ::sockserver::Server> ::sockserver::FromRequest<__S>
for Session<T>
where
    Arc<Shared<T>>: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <Arc<
        Shared<T>,
    > as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            server: <Arc<
                Shared<T>,
            > as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            of: <PhantomData<T> as ::core::default::Default>::default(),
        })
    }
}
impl<T: Send + Sync + 'static> RequestHandler for Session<T> {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
