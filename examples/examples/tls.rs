//! `upper` over TLS.
//!
//! ```console
//! $ cargo run --features tls --example tls
//! listening on 127.0.0.1:9999
//! the certificate is in /tmp/sockserver-localhost.pem
//! ```
//!
//! ```console
//! $ printf 'hello\n' | openssl s_client -quiet -CAfile /tmp/sockserver-localhost.pem -connect localhost:9999
//! HELLO
//! ```
//!
//! It makes a certificate for `localhost`, or takes one with its key, in PEM:
//! `cargo run --features tls --example tls -- 127.0.0.1:9999 cert.pem key.pem`. A server with a certificate of its own needs no hook:
//!
//! ```ignore
//! #[server(transport = "tcp", concurrency = "threading", tls(certificate = "cert.pem", key = "key.pem"))]
//! ```

use std::{
    env, fs,
    io::{self, Write},
};

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Tls, TlsInfo, Writer, request_handler};

#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Upper, hooks(tls = Self::certificate))]
struct Encrypted {
    tls: Tls,
}

#[request_handler(timeout = "5m")]
struct Upper {
    rfile: Reader,
    wfile: Writer,
    info: TlsInfo,
}

impl Encrypted {
    fn certificate(&self) -> io::Result<Tls> {
        Ok(self.tls.clone())
    }
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.as_str() {
                "tls" => writeln!(self.wfile, "{} with {}", self.info.version, self.info.cipher_suite)?,
                line => writeln!(self.wfile, "{}", line.to_uppercase())?,
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9999".into());
    let (tls, made) = match (arguments.next(), arguments.next()) {
        (Some(certificate), Some(key)) => (Tls::files(certificate, key)?, None),
        _ => {
            let (certificate, key) = self_signed().map_err(io::Error::other)?;
            (Tls::pem(&certificate, key)?, Some(certificate))
        }
    };
    let server = Encrypted { tls }.bind(address)?;
    println!("listening on {}", server.server_address());
    if let Some(certificate) = made {
        let path = env::temp_dir().join("sockserver-localhost.pem");
        fs::write(&path, certificate)?;
        println!("the certificate is in {}", path.display());
    }
    server.serve_forever()
}

/// A certificate for `localhost` and its key.
fn self_signed() -> Result<(String, String), rcgen::Error> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}
