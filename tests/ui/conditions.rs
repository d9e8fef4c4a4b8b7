//! A condition on a field can be told, but not known.

#![allow(unexpected_cfgs)]

use sockserver::{HandlerResult, Reader, RequestHandler, Server, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Conditional {
    #[cfg_attr(unix, default, allow(unused))]
    number: u8,
    #[cfg_attr(unix, cfg(target_os = "linux"))]
    linux: u8,
    #[cfg_attr(unix, allow(unused))]
    rfile: Reader,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Many {
    #[cfg(one)]
    one: Reader,
    #[cfg(two)]
    two: Reader,
    #[cfg(not(one))]
    not_one: Reader,
    #[cfg(three)]
    three: Reader,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Twice {
    #[cfg(one)]
    #[cfg(two)]
    both: Reader,
}

#[request_handler]
struct Parameter<T, #[cfg(one)] U, #[cfg_attr(two, cfg(three))] const N: usize> {
    #[default]
    of: std::marker::PhantomData<T>,
    #[cfg(one)]
    #[default]
    one: std::marker::PhantomData<U>,
}

impl RequestHandler for Conditional {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

impl RequestHandler for Many {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

impl RequestHandler for Twice {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

impl<T, U, const N: usize> RequestHandler for Parameter<T, U, N> {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    ConditionalServer.bind("127.0.0.1:0")?.serve_forever()?;
    ManyServer.bind("127.0.0.1:0")?.serve_forever()?;
    TwiceServer.bind("127.0.0.1:0")?.serve_forever()
}
