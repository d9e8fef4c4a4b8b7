//! Each mistake is one error: what was meant to be there is there all the same.

use sockserver::{Address, Datagram, HandlerResult, RequestHandler, Server, Stream, request_handler};
use std::{io, path::Path};

#[request_handler]
struct Session {
    request: Stream,
}

#[request_handler]
struct Packet {
    request: Datagram,
}

#[derive(Default, Server)]
struct WithoutAttribute;

#[derive(Default, Server)]
#[server(transport = "upd", concurrency = "sync", handler = Packet, hooks(verify_request = Self::is_known))]
struct WithoutTransport;

impl WithoutTransport {
    fn is_known(&self, _: &Datagram, _: &Address) -> bool {
        true
    }
}

#[derive(Default, Server)]
#[server(transport = "unixx", concurrency = "sync", handler = Session)]
struct OnFile;

#[derive(Default, Server)]
#[server(transport = "tcp", concurency = "sync", handler = Session)]
struct WithoutConcurrency;

#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, limits(connections = "many"))]
struct WithoutLimit;

#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "sync")]
struct WithoutHandler<T: Send + Sync + 'static> {
    of: T,
}

impl<T: Send + Sync + 'static> RequestHandler for WithoutHandler<T> {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler(timeout = 5)]
#[server(transport = "tcp", concurrency = "sync")]
enum Enum {
    Only,
}

#[derive(Debug, Server)]
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Both;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", handler)]
struct Named;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Borrowing {
    request: Stream,
    line: &str,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Lifetime<'a> {
    line: &'a str,
}

macro_rules! handles {
    ($($name:ty,)*) => {
        $(impl RequestHandler for $name {
            fn handle(&mut self) -> HandlerResult {
                Ok(())
            }
        })*
    };
}

handles!(Session, Packet, Enum, Both, Named, Borrowing, Lifetime<'_>,);

fn main() -> io::Result<()> {
    WithoutAttribute.bind("127.0.0.1:0")?.serve_forever()?;
    WithoutTransport.bind("127.0.0.1:0")?.serve_forever()?;
    OnFile.bind(Path::new("/tmp/socket"))?.serve_forever()?;
    WithoutConcurrency.bind("127.0.0.1:0")?.serve_forever()?;
    WithoutLimit.bind("127.0.0.1:0")?.serve_forever()?;
    WithoutHandler { of: 1 }.bind("/tmp/socket")?.serve_forever()?;
    EnumServer.bind("127.0.0.1:0")?.serve_forever()?;
    BothServer.bind("127.0.0.1:0")?.serve_forever()?;
    NamedServer.bind("127.0.0.1:0")?.serve_forever()?;
    BorrowingServer.bind("127.0.0.1:0")?.serve_forever()?;
    LifetimeServer.bind("127.0.0.1:0")?.serve_forever()
}
