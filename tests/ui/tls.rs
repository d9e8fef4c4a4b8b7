use sockserver::{Alpn, HandlerResult, PeerCertificate, Reader, RequestHandler, Server, ServerName, Tls, TlsInfo, request_handler};
use std::io;

macro_rules! handles {
    ($($handler:ident)*) => { $(
        impl RequestHandler for $handler {
            fn handle(&mut self) -> HandlerResult {
                Ok(())
            }
        }
    )* };
}

handles! { Plain InHandler NotAsked Optional Packets KeyOnly CertificateOnly AuthOnly CaOnly Alone Both Late List Words Typo Hooked }

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Plain {
    info: TlsInfo,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem", start = "handler"))]
struct InHandler {
    alpn: Alpn,
}

#[request_handler]
#[server(transport = "unix", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem"))]
struct NotAsked {
    name: ServerName,
    peer: PeerCertificate,
}

#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "sync",
    tls(certificate = "c.pem", key = "k.pem", client_auth = "optional", client_ca = "ca.pem"),
)]
struct Optional {
    peer: PeerCertificate,
}

#[request_handler]
#[server(transport = "udp", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem"))]
struct Packets {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(key = "k.pem"))]
struct KeyOnly {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = "c.pem"))]
struct CertificateOnly {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem", client_auth = "required"))]
struct AuthOnly {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem", client_ca = "ca.pem"))]
struct CaOnly {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(versions = "1.3", tickets = false))]
struct Alone {}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Both, tls(certificate = "c.pem", key = "k.pem"), hooks(tls = Self::tls))]
struct TwoSources;

impl TwoSources {
    fn tls(&self) -> io::Result<Tls> {
        Tls::pem("", "")
    }
}

#[request_handler]
struct Both {}

#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "sync",
    tls(certificate = "c.pem", key = "k.pem", start = "handler", alpn = ["h2"]),
)]
struct Late {
    rfile: Reader,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem", alpn = "h2"))]
struct List {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = c, key = "", alpn = [1], versions = "1.1", start = "later"))]
struct Words {}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync", tls(certificate = "c.pem", key = "k.pem", cient_ca = "ca.pem"))]
struct Typo {}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Hooked, hooks(tls = Self::certificates))]
struct WrongHook;

impl WrongHook {
    fn certificates(&self) -> Tls {
        unreachable!()
    }
}

#[request_handler]
struct Hooked {}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Both, tls(cert = "c.pem", key = "k.pem"))]
struct Short;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Both, tls(certificate = 5, key = "k.pem"))]
struct Number;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Both, tls())]
struct Empty;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Both,
    tlz(certificate = "c.pem", key = "k.pem"),
    timeouts(handshake = "3s"),
)]
struct OtherGroup;

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Both, tls, timeouts(handshake = "3s"))]
struct WithoutKeys;

fn main() {}
