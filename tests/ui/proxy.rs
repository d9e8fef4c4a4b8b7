//! The proxies in front of a server.

use sockserver::{HandlerResult, ProxyHeader, RequestHandler, Server, TrustedProxy, request_handler};

#[request_handler]
struct Session;

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Direct {
    header: ProxyHeader,
}

impl RequestHandler for Direct {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler]
struct Named {
    header: ProxyHeader,
}

impl RequestHandler for Named {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Named)]
struct NotBehind;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, proxy(untrusted = "direct"))]
struct TrustsNobody;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, proxy(trust = []))]
struct Empty;

const NOBODY: &[TrustedProxy] = &[];

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, proxy(trust = NOBODY))]
struct EmptyConstant;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, proxy(trust = ["10.0.0.1/8"]))]
struct HostBits;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, proxy(trust = ["10.0.0.0/33", "proxy.example"]))]
struct NoNetworks;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session, proxy(trust = "10.0.0.0/8", versions = 2))]
struct NoList;

#[derive(Server)]
#[server(transport = "udp", concurrency = "sync", handler = Session, proxy(trust = ["10.0.0.0/8"]))]
struct Packets;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    limits(handshakes = 8),
    timeouts(handshake = "3s"),
)]
struct NothingPrecedes;

/// Behind a proxy the clients of a Unix socket have addresses.
#[derive(Server)]
#[server(
    transport = "unix",
    concurrency = "threading",
    handler = Named,
    proxy(trust = ["unix"], untrusted = "direct", versions = "2"),
    limits(per_client = 2, handshakes = 8),
    timeouts(handshake = "3s"),
)]
struct Right;

fn main() {}
