//! A server behind proxies, in a process of its own: `behind TRANSPORT CONCURRENCY [KEY=VALUE]… ADDRESS`.
//!
//! It trusts 127.0.0.1 and every peer on a Unix socket. Of some words a line does what they say: `who` tells who the
//! client, the proxy and the server are, `header` the rest of the PROXY header, `stats` what the server has done, `pid` the
//! process that answers, `fail` fails, `ban` fails so that the client is banned, `one each` fails so that each client may
//! have one connection from then on, `stop` shuts the server down. Other lines are answered in upper case. What
//! `handle_error` gets is a line of the standard output, after one of all clients.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    marker::PhantomData,
    os::unix::process::parent_id,
    process,
    sync::OnceLock,
    time::Duration,
};

use sockserver::{
    Address, BindTo, Concurrency, HandlerError, HandlerResult, MessageHandler, OnLimit, Options, ProxyHeader,
    ProxyVersions, Server, ServerHandle, Stream, UntrustedPeer, Writer,
    concurrency::{EventLoop, Forking, Pool, Synchronous, Threading},
    message_handler,
    transport::{StreamTransport, Tcp, Unix},
};
use sockserver_tests::{concurrencies::set_workers, script::words_of};

#[derive(Server)]
#[server(
    transport = T,
    concurrency = C,
    handler = Session,
    proxy(trust = ["127.0.0.1", "unix"]),
    hooks(
        server_activate = Self::keep,
        verify_request = Self::is_welcome,
        handle_error = Self::tell,
        service_actions = Self::follow_parent,
    ),
)]
struct Behind<T: StreamTransport, C: Concurrency + Default> {
    parent: u32,
    handle: OnceLock<ServerHandle>,
    composition: PhantomData<fn() -> (T, C)>,
}

impl<T: StreamTransport, C: Concurrency + Default> Behind<T, C> {
    fn keep(&self, handle: &ServerHandle) {
        let _ = self.handle.set(handle.clone());
    }

    fn is_welcome(&self, request: &Stream, client_address: &Address) -> bool {
        assert_eq!(request.peer_addr().expect("known"), *client_address);
        client_address.ip().is_none_or(|ip| !ip.to_string().starts_with("203.0.113.66"))
    }

    fn tell(&self, error: &HandlerError, client_address: &Address) {
        let clients = self.handle.get().map(ServerHandle::connections).unwrap_or_default();
        let clients: Vec<String> = clients.iter().map(|it| it.client_address.to_string()).collect();
        if let (Some(handle), Some(client)) = (self.handle.get(), client_address.ip()) {
            match words_of(error).as_str() {
                "handle failed: ban" => handle.ban(client, Duration::from_secs(3600)),
                "handle failed: one each" => {
                    handle.set_limits(handle.limits().per_client(1)).expect("as it could be bound")
                }
                _ => {}
            }
        }
        println!("clients: {}", clients.join(" "));
        let connection = error.connection().expect("a client's error");
        assert_eq!(connection.client_address, *client_address);
        println!("{:?} of {client_address} in {}: {}", error.stage(), process::id(), words_of(error));
    }

    /// It must not outlive the test.
    fn follow_parent(&self) {
        if parent_id() != self.parent {
            process::exit(0);
        }
    }
}

#[message_handler(framing = "line")]
struct Session {
    request: Stream,
    header: ProxyHeader,
    wfile: Writer,
    client_address: Address,
    handle: ServerHandle,
}

impl MessageHandler for Session {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        match line {
            "who" => {
                let proxy = self.request.proxy_addr().map(Address::to_string);
                let (client, server) = (&self.client_address, self.request.local_addr()?);
                writeln!(self.wfile, "{client} by {} at {server}", proxy.as_deref().unwrap_or("itself"))?;
            }
            "header" => writeln!(self.wfile, "{:?}", self.header)?,
            "stats" => writeln!(self.wfile, "{:?}", self.handle.stats())?,
            // By the descriptor, behind the back of the framing.
            "raw" => {
                let mut rest = [0; 4];
                (&self.request).read_exact(&mut rest)?;
                writeln!(self.wfile, "{}", rest.escape_ascii())?;
            }
            "pid" => writeln!(self.wfile, "{}", process::id())?,
            "fail" => return Err("as it was told to".into()),
            "ban" | "one each" => return Err(line.into()),
            "stop" => self.handle.shutdown(),
            _ => writeln!(self.wfile, "{}", line.to_uppercase())?,
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [transport, concurrency, settings @ .., address] = &arguments[..] else {
        return Err("behind TRANSPORT CONCURRENCY [KEY=VALUE]… ADDRESS".into());
    };
    let options = options(settings)?;
    match transport.as_str() {
        "tcp" => serve_on::<Tcp, _>(concurrency, address.as_str(), options)?,
        "unix" => serve_on::<Unix, _>(concurrency, address.as_str(), options)?,
        unknown => return Err(format!("{unknown} has no connections").into()),
    }
    Ok(())
}

fn options(settings: &[String]) -> Result<Options, Box<dyn Error>> {
    let mut options = <Behind<Tcp, Threading> as Server>::OPTIONS;
    options.timeouts.poll = Some(Duration::from_secs(1));
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or("KEY=VALUE")?;
        let milliseconds = || value.parse().map(Duration::from_millis);
        match key {
            "connections" => options.limits.connections = Some(value.parse()?),
            "per_client" => options.limits.per_client = Some(value.parse()?),
            "rate" => options.limits.rate = Some(value.parse()?),
            "rate_per_client" => options.limits.rate_per_client = Some(value.parse()?),
            "deny" => options.access.deny = Some(vec![value.parse()?].leak()),
            "handshakes" => options.limits.handshakes = Some(value.parse()?),
            "on_limit" => options.limits.on_limit = OnLimit::Reject,
            "handshake" => options.timeouts.handshake = milliseconds()?,
            "idle" => options.timeouts.idle = Some(milliseconds()?),
            "lifetime" => options.timeouts.lifetime = Some(milliseconds()?),
            "shutdown" => options.timeouts.shutdown = milliseconds()?,
            "workers" => options.workers = Some(value.parse()?),
            "reload" => options.tls.reload = Some(milliseconds()?),
            "certificate" => options.tls.certificate = Some(value.to_owned().leak()),
            "key" => options.tls.key = Some(value.to_owned().leak()),
            "trust" => options.proxy.trust = None,
            "untrusted" => options.proxy.untrusted = UntrustedPeer::Direct,
            "versions" if value == "1" => options.proxy.versions = ProxyVersions::One,
            "versions" => options.proxy.versions = ProxyVersions::Two,
            unknown => return Err(format!("{unknown} is no key").into()),
        }
    }
    set_workers(&mut options);
    Ok(options)
}

fn serve_on<T: StreamTransport, A: BindTo<T>>(concurrency: &str, address: A, options: Options) -> io::Result<()> {
    match concurrency {
        "sync" => serve::<T, Synchronous, A>(address, options),
        "threading" => serve::<T, Threading, A>(address, options),
        "pool" => serve::<T, Pool, A>(address, options),
        "event_loop" => serve::<T, EventLoop, A>(address, options),
        _ => serve::<T, Forking, A>(address, options),
    }
}

fn serve<T: StreamTransport, C: Concurrency + Default, A: BindTo<T>>(address: A, options: Options) -> io::Result<()> {
    let server = Behind::<T, C> { parent: parent_id(), handle: OnceLock::new(), composition: PhantomData };
    let server = server.bind_with(address, options)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
