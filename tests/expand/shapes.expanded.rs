use sockserver::*;
struct Unit;
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Unit {
    fn from_request(_: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {})
    }
}
struct Tuple(Reader, usize, Writer);
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Tuple
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
                <usize as ::core::default::Default>::default(),
                <Writer as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            ),
        )
    }
}
struct Generic<T, const N: usize = 4>
where
    T: Clone,
{
    first: T,
    second: T,
    counts: [u8; N],
}
#[automatically_derived]
impl<T, const N: usize, __S: ::sockserver::Server> ::sockserver::FromRequest<__S>
for Generic<T, N>
where
    T: Clone,
    T: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <T as ::sockserver::FromRequest<
        __S,
    >>::NEEDS_SHARED_MEMORY
        || <T as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    #[allow(unreachable_code)]
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {
            first: <T as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            second: <T as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            counts: [0; N],
        })
    }
}
