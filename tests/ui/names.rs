//! `name` names the server that `#[request_handler]` writes.

use sockserver::{HandlerResult, RequestHandler, Server, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", name = Upper)]
struct Upper;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", name = "Shouter")]
struct Quoted;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", name = servers::Shouter)]
struct Elsewhere;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", name = Self)]
struct Keyword;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Upper, name = Shouter)]
struct Derived;

macro_rules! handles {
    ($($name:ident)*) => {
        $(impl RequestHandler for $name {
            fn handle(&mut self) -> HandlerResult {
                Ok(())
            }
        })*
    };
}

handles!(Upper Quoted Elsewhere Keyword);

fn main() {}
