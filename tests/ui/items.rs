#![allow(unused_parens)]

use sockserver::{HandlerResult, Reader, RequestHandler, Server, request_handler};
use std::borrow::Cow;

#[request_handler]
enum Either {
    One,
}

#[request_handler]
union Both {
    one: u8,
    other: i8,
}

#[request_handler]
fn function() {}

#[request_handler]
struct Lifetime<'a> {
    rfile: Reader,
    name: &'a str,
}

#[request_handler]
struct Borrowed {
    name: &str,
    names: Option<Vec<&'_ str>>,
    cow: Cow<'_, str>,
    within: ([&str; 2], Box<[&str]>, (&str)),
    constant: &'static str,
    #[default(str::len)]
    function: fn(&str) -> usize,
}

macro_rules! passed {
    ($ty:ty) => {
        #[request_handler]
        struct Passed {
            name: $ty,
        }
    };
}

passed!(&str);

#[request_handler]
struct Defaults {
    #[default = 1]
    assigned: u8,
    #[default()]
    empty: u8,
    #[default]
    #[default(2)]
    twice: u8,
}

/// `#[default]` is for both, and the macro above takes it away.
#[request_handler]
#[cfg_attr(all(), derive(Debug, smart::SmartDefault))]
struct Smart {
    #[default(5)]
    number: u8,
}

#[request_handler]
#[derive(Debug, Default)]
struct StandardDefault {
    #[default(5)]
    number: u8,
}

mod smart {
    pub use std::prelude::v1::Default as SmartDefault;
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", handler = Named)]
struct Named;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Generic<T> {
    value: T,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
#[derive(Debug, Server)]
struct Derived;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
#[server(timeouts(idle = "1s"))]
struct Twice;

macro_rules! handles {
    ($($name:ident)*) => {
        $(impl RequestHandler for $name {
            fn handle(&mut self) -> HandlerResult {
                Ok(())
            }
        })*
    };
}

handles!(Either Named Derived Twice TwiceAHandler);

impl<T> RequestHandler for Generic<T> {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
fn served() {}

#[request_handler]
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct TwiceAHandler;

#[request_handler]
struct Listed {
    #[default(1, 2)]
    pair: (u8, u8),
    #[default(todo!())]
    never: u8,
    after: Reader,
}

#[derive(Server)]
#[server(transport = "tcp")]
#[server(concurrency = "sync", handler = Named)]
struct InParts;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Self)]
struct Itself;

fn main() -> std::io::Result<()> {
    GenericServer.bind("127.0.0.1:0")?.serve_forever()
}
