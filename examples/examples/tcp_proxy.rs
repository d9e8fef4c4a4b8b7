//! A proxy for TCP: each connection is passed on to another server, byte for byte, in both directions.
//!
//! ```console
//! $ cargo run --example tcp_proxy -- 127.0.0.1:9999 --to 127.0.0.1:8000
//! listening on 127.0.0.1:9999
//! ```
//!
//! | | |
//! |---|---|
//! | `HOST:PORT` | where it listens: `127.0.0.1:9999` |
//! | `--to HOST:PORT` | the server behind it; several addresses of a host are tried one after the other |
//! | `--send-proxy v1` or `v2` | tells the server behind it who the client is, by a PROXY header |
//! | `--idle SECONDS` | a connection on which nothing comes either way for so long is ended: 600 |
//!
//! Each half of a connection ends for itself: a client that has sent all can still receive. On Ctrl-C and SIGTERM no
//! connection is accepted any more, and each open one has 20 seconds to come to its own end.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use sockserver::{Address, HandlerResult, ProxyHeader, RequestHandler, Server, Stream, request_handler};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When one half has ended, the other one may be silent for so long.
const HALF_CLOSED: Duration = Duration::from_secs(60);

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    limits(connections = 4096),
    timeouts(idle = "10m", shutdown = "20s"),
    stack_size = "256KiB",
)]
struct Proxy {
    behind: Vec<SocketAddr>,
    send_proxy: Option<Version>,
}

/// The version of the PROXY header that the server behind is sent.
#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

#[request_handler]
struct Session {
    client: Stream,
    address: Address,
    proxy: Arc<Proxy>,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        // Only the two ends know when it is done: a server that stops waits for them.
        self.client.set_busy(true);
        let server = self.connect()?;
        thread::scope(|scope| {
            let downwards = thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, || {
                let passed = pass_on(&server, &self.client);
                // The server has sent all, or is gone.
                let _ = self.client.shutdown(if passed.is_ok() { Shutdown::Write } else { Shutdown::Both });
                let _ = self.client.set_idle_timeout(Some(HALF_CLOSED));
                passed
            })?;
            let upwards = pass_on(&self.client, &server);
            // The client has sent all, or is gone.
            let _ = server.shutdown(if upwards.is_ok() { Shutdown::Write } else { Shutdown::Both });
            let downwards = downwards.join().expect("it does not panic");
            Ok(upwards.and(downwards)?)
        })
    }
}

impl Session {
    fn connect(&self) -> io::Result<TcpStream> {
        let Proxy { behind, send_proxy } = &*self.proxy;
        let mut failure = None;
        let mut connect =
            |address| TcpStream::connect_timeout(address, CONNECT_TIMEOUT).map_err(|error| failure = Some(error));
        let Some(mut server) = behind.iter().find_map(|address| connect(address).ok()) else {
            let error = failure.unwrap_or(io::ErrorKind::NotFound.into());
            return Err(io::Error::new(error.kind(), format!("cannot connect to {}: {error}", behind[0])));
        };
        server.set_nodelay(true)?;
        if let Some(version) = send_proxy {
            let header = ProxyHeader::new(self.address.clone(), self.client.local_addr()?);
            server.write_all(&match version {
                Version::One => header.to_v1(),
                Version::Two => header.to_v2()?,
            })?;
        }
        Ok(server)
    }
}

/// Passes on what comes from one end, until it has sent all.
fn pass_on(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut words: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let mut listen = "127.0.0.1:9999".to_owned();
    let mut proxy = Proxy { behind: Vec::new(), send_proxy: None };
    let mut options = Proxy::OPTIONS;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} takes a value"));
        match &*word {
            "--to" => {
                let server = value()?;
                let addresses = server.to_socket_addrs().map_err(|error| format!("--to {server}: {error}"))?;
                proxy.behind = addresses.collect();
            }
            "--send-proxy" => match &*value()? {
                "v1" => proxy.send_proxy = Some(Version::One),
                "v2" => proxy.send_proxy = Some(Version::Two),
                other => return Err(format!("--send-proxy is v1 or v2, not {other}").into()),
            },
            "--idle" => {
                let seconds = value()?;
                let idle = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                options.timeouts.idle = Some(idle.ok_or(format!("--idle is a number of seconds, not {seconds}"))?);
            }
            word if word.starts_with('-') => return Err(format!("{word} is not understood").into()),
            _ => listen = word,
        }
    }
    if proxy.behind.is_empty() {
        return Err("say which server is behind: --to HOST:PORT".into());
    }
    let server = proxy.bind_with(listen, options)?;
    server.shutdown_on_signals()?;
    // `println` would panic where the output is closed.
    let _ = writeln!(io::stdout(), "listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}
