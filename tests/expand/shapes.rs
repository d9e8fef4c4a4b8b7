use sockserver::*;

#[request_handler]
struct Unit;

#[request_handler]
struct Tuple(Reader, #[default] usize, Writer);

#[request_handler]
struct Generic<T, const N: usize = 4>
where
    T: Clone,
{
    first: T,
    second: T,
    #[default([0; N])]
    counts: [u8; N],
}
