//! Behind a proxy: each line is answered with the address of the client, as the proxy has named it.
//!
//! ```console
//! $ cargo run --example whois_behind
//! listening on 127.0.0.1:9999
//! ```
//!
//! A PROXY header can be written by hand:
//!
//! ```console
//! $ printf 'PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\nwho am I?\n' | nc 127.0.0.1 9999
//! 203.0.113.9:5000, who has connected to 192.0.2.1:25
//! ```
//!
//! HAProxy writes one with this configuration, and the clients of its port 9998 are told their own addresses:
//!
//! ```text
//! defaults
//!     mode tcp
//!     timeout connect 5s
//!     timeout client 1m
//!     timeout server 1m
//! listen whois
//!     bind :9998
//!     server app 127.0.0.1:9999 send-proxy-v2 check
//! ```
//!
//! Only this machine is trusted to speak for others. Without a header, nothing is answered.

use std::{env, io, io::Write};

use sockserver::{Address, HandlerResult, ProxyHeader, Reader, RequestHandler, Server, Writer, request_handler};

#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "threading",
    proxy(trust = ["127.0.0.0/8", "::1"]),
    limits(per_client = 10),
    timeouts(handshake = "5s", idle = "1m"),
)]
struct WhoisBehind {
    rfile: Reader,
    wfile: Writer,
    client: Address,
    header: ProxyHeader,
}

impl RequestHandler for WhoisBehind {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.next_line()?.is_some() {
            match &self.header.destination {
                Some(destination) => writeln!(self.wfile, "{}, who has connected to {destination}", self.client)?,
                None => writeln!(self.wfile, "{}, the proxy itself", self.client)?,
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = WhoisBehindServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
