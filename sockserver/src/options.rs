//! The options of a server: plain data, in the groups of `#[server(…)]`.

use std::{io, str::FromStr, time::Duration};

use crate::{
    network::{Network, NotANetwork},
    rate::Rate,
};

/// The options of a server, in the groups of the `#[server(…)]` attribute.
///
/// Their methods set one option each, so that a constant reads as the attribute does:
///
/// ```
/// use sockserver::{Limits, Options, Timeouts};
/// use std::time::Duration;
///
/// // workers = 4, limits(connections = 100, per_client = 2), timeouts(idle = "30s")
/// const SMALL: Options = Options::new()
///     .workers(4)
///     .limits(Limits::new().connections(100).per_client(2))
///     .timeouts(Timeouts::new().idle(Duration::from_secs(30)));
/// ```
///
/// A method of `Options` replaces a whole group. To change one option of an attribute, write `options.timeouts.idle = Some(…)`.
///
/// The derive puts the options of the attribute into [`Server::OPTIONS`](crate::Server::OPTIONS). To decide some of
/// them at run time, start from there and use [`bind_with`](crate::Server::bind_with):
///
/// ```
/// use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
/// # fn main() -> std::io::Result<()> {
/// #[request_handler]
/// #[server(transport = "tcp", concurrency = "threading")]
/// struct Hello {
///     wfile: Writer,
/// }
/// # impl RequestHandler for Hello {
/// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
/// # }
///
/// let mut options = HelloServer::OPTIONS;
/// options.limits.connections = Some(10);
/// let server = HelloServer.bind_with("127.0.0.1:0", options)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// `socket(…)`: the listening socket.
    pub socket: SocketOptions,
    /// `limits(…)`: how many requests are served at once.
    pub limits: Limits,
    /// `timeouts(…)`: how long requests and the stop may take.
    pub timeouts: Timeouts,
    /// What `#[request_handler(…)]` or `#[message_handler(…)]` says, decided at run time.
    pub handler: HandlerOptions,
    /// `access(…)`: which clients are let in.
    pub access: Access,
    /// `proxy(…)`: the proxies in front of the server.
    pub proxy: ProxyOptions,
    /// `tls(…)`: how connections are encrypted.
    #[cfg(feature = "tls")]
    pub tls: TlsOptions,
    /// `workers`: how many threads `"pool"` has, or how many loops `"event_loop"`. `None`: four threads for each core; one loop,
    /// and more when it has too much to do, up to one for each core.
    ///
    /// With `"pool"` a silent client holds a worker. When silent clients hold all workers, no other client is served:
    /// [how a pool starves](crate::guide::choosing#how-a-pool-starves).
    pub workers: Option<usize>,
    /// `stack_size`: bytes of stack for each thread that `"threading"`, `"pool"` and `"event_loop"` start. `None`: the
    /// default of [`std::thread`].
    pub stack_size: Option<usize>,
    /// `allow_threads`: lets `"forking"` fork a process that has several threads. In such a child only
    /// async-signal-safe code is safe: by setting this, you vouch that the handler runs no other code. Default:
    /// `false`.
    pub allow_threads: bool,
}

/// `socket(…)`: options of the listening socket, from which TCP connections take theirs. Binding fails with
/// [`io::ErrorKind::Unsupported`] for one that the system does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// How many connections may wait in the kernel's queue to be accepted, as in `listen(2)`. Default: 1024 (Python's
    /// `request_queue_size`: 5, since 3.15 `SOMAXCONN`). Streams only.
    pub request_queue_size: u32,
    /// Sets `SO_REUSEADDR` before binding, so that a server can be started again while old connections linger. Default:
    /// `true` (Python's `allow_reuse_address`: `False`). tcp only: on udp two servers could share the port, and one of
    /// them would receive nothing.
    pub allow_reuse_address: bool,
    /// Sets `SO_REUSEPORT` before binding, so that several processes can share the port. Default: `false`, as Python's
    /// `allow_reuse_port`. Internet sockets only.
    pub allow_reuse_port: bool,
    /// Sets `TCP_NODELAY` on the listening socket, from which connections inherit it. Default: `true`
    /// (Python's `disable_nagle_algorithm`: `False`). tcp only.
    pub nodelay: bool,
    /// Probes a silent client after this time, in whole seconds, 32 767 at most (`SO_KEEPALIVE` and, if the system has
    /// it, `TCP_KEEPIDLE`). Default: off. tcp only.
    pub keepalive: Option<Duration>,
    /// Probes again after this time, in whole seconds, 32 767 at most, while the client does not answer (`TCP_KEEPINTVL`).
    /// It turns probes on, as `keepalive` does. Default: the kernel's, 75 s on Linux. tcp only.
    pub keepalive_interval: Option<Duration>,
    /// Ends a connection after so many probes without an answer, 127 at most (`TCP_KEEPCNT`). It turns probes on, as
    /// `keepalive` does. Default: the kernel's, 9 on Linux. tcp only.
    pub keepalive_retries: Option<u32>,
    /// Ends a connection whose client has not acknowledged what was sent to it for this long, in milliseconds
    /// (`TCP_USER_TIMEOUT`). With probes it also says how long they may go unanswered. Default: the kernel's, about a
    /// quarter of an hour. tcp on Linux only.
    pub user_timeout: Option<Duration>,
    /// Has the kernel accept a connection when its first bytes have come, or after about this time, in whole seconds
    /// (`TCP_DEFER_ACCEPT`): for protocols in which the client speaks first. Default: at once. tcp on Linux only.
    pub defer_accept: Option<Duration>,
    /// How many bytes the kernel holds of what was received and not read (`SO_RCVBUF`; Linux holds twice as many, and at
    /// most `net.core.rmem_max`). Linux then no longer fits it to the connection. Default: the kernel's. Not on Unix stream
    /// sockets.
    pub receive_buffer: Option<usize>,
    /// How many bytes the kernel holds of what was sent and not acknowledged (`SO_SNDBUF`, as `receive_buffer`). Default:
    /// the kernel's. Not on Unix stream sockets.
    pub send_buffer: Option<usize>,
    /// How routers treat what is sent: the differentiated services codepoint, from 0 to 63 (`IP_TOS`, `IPV6_TCLASS`).
    /// Default: the kernel's, which is 0. Internet sockets only.
    pub dscp: Option<u32>,
    /// Serves only what comes in by this network interface, such as `eth0` (`SO_BINDTODEVICE`). Default: by any. Internet
    /// sockets on Linux only.
    pub device: Option<&'static str>,
    /// Restricts an IPv6 socket to IPv6. Default: `false` on every system, so that `[::]` serves IPv4 clients too.
    pub only_v6: bool,
    /// The longest packet that is received whole, in bytes. Default: 65 535 (Python's `max_packet_size`: 8192).
    /// Datagrams only.
    pub max_packet_size: usize,
    /// The permissions of the socket file, like `0o660`. The file has them before the first client can connect.
    /// Default: what the umask leaves. Unix sockets only.
    pub mode: Option<u32>,
    /// Replaces a stale socket file, at which no server listens, when binding, and removes the file at the end.
    /// Default: `true`. Unix sockets only.
    pub unlink: bool,
}

/// `limits(…)`: how many requests are served at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections or, on datagrams, packets are served at once. `None`: 1024 for `"threading"`, the number of
    /// workers for `"pool"`, 40 for `"forking"` (Python's `max_children`), 100 000 for `"event_loop"`; less where these would take more than three
    /// quarters of the descriptors that the process may open (`ulimit -n`). Whatever this is, `"pool"` serves at most
    /// as many as it has workers, and `"sync"` serves one.
    ///
    /// The default counts each server alone, and a number of yours is taken as it is, even if the process may not open that
    /// many: [the guide](crate::guide::choosing#descriptors) says what happens then, and what several servers need.
    pub connections: Option<usize>,
    /// How many connections one client may have. A client is an IPv4 address, an IPv6 /64 network (a single address if it
    /// is link-local), or on Unix sockets a user. Default: no limit.
    ///
    /// A client that has seen the end of a connection can have the next one at once. With `"forking"` it may come too
    /// early: the place is free when the child process has ended.
    pub per_client: Option<usize>,
    /// How many connections may be at their PROXY header or their TLS handshake at once. While they are, further clients
    /// wait or are rejected as [`on_limit`](Self::on_limit) says, and a connection that takes longer than three seconds for
    /// both is ended: so silent clients cannot keep others out. Default: half of `connections`. Only with `proxy(…)` or
    /// `tls(…)`.
    pub handshakes: Option<usize>,
    /// How many threads `"event_loop"` may have: one that drives each loop, one that watches for slow handlers, and
    /// one for each handler that is slow at the moment. If more handlers are slow, some wait until a thread is free; if
    /// none becomes free, the loop waits too. `None`: 256.
    pub threads: Option<usize>,
    /// How many connections or, on datagrams, packets are accepted in a time: `"200/s"`. So many may come at once, and then
    /// one each time that its share of the time has passed. [`on_limit`](Self::on_limit) says what happens to more. Those that
    /// another rule turns away do not count. Default: no limit.
    pub rate: Option<Rate>,
    /// How many connections or packets of one client are accepted in a time: `"5/s"`. A client that comes more often is
    /// rejected, which does not count. The server remembers 65,536 clients, those whose rate is used up most. Behind a proxy
    /// the client counts when its header has come. With `"forking"` it counts a moment later, so that connections which come
    /// at once can all be let in. Default: no limit.
    pub rate_per_client: Option<Rate>,
    /// What happens to a client above `connections` or `rate`. Default: [`OnLimit::Wait`]. A client above `per_client` or
    /// `rate_per_client` is always rejected: if it waited, it would hold up all other clients.
    pub on_limit: OnLimit,
}

/// What happens to a client above the limit of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// `"wait"`: the client waits in the kernel's queue until there is room.
    #[default]
    Wait,
    /// `"reject"`: the server accepts the connection and closes it at once.
    Reject,
}

/// `timeouts(…)`: how long requests and the stop may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// How long [`handle_request`](crate::SocketServer::handle_request) waits for a request before it calls
    /// `handle_timeout`: the `timeout` of Python's servers. Default: for ever.
    pub handle_request: Option<Duration>,
    /// Ends a connection on which no byte was transferred in either direction for this long, while its handler waits
    /// for the client. While an answer is under way, the bytes that the client receives count too; they are checked
    /// every eighth of this time. The handler gets an error with [`Closing::Idle`](crate::Closing::Idle) inside, and
    /// has a second to say goodbye. For one connection: [`Stream::set_idle_timeout`](crate::Stream::set_idle_timeout).
    /// Default: off. Streams only.
    pub idle: Option<Duration>,
    /// Ends a connection this long after it was accepted, however busy it is. The handler's reads then fail with
    /// [`Closing::Lifetime`](crate::Closing::Lifetime), even if the client has sent more than was read. A second later the
    /// server cuts the connection, and writes fail too. Default: off. Streams only.
    pub lifetime: Option<Duration>,
    /// How long a client may take for one message, from its first byte to its last, however steadily the bytes come. The
    /// read of a [`Frames`](crate::Frames) then fails with [`io::ErrorKind::TimedOut`](std::io::ErrorKind::TimedOut). A
    /// message handler's connection ends with this error, which is reported; no method is called but `finish`. A handler
    /// that reads bytes or lines sets a deadline instead, with
    /// [`Reader::set_deadline`](crate::Reader::set_deadline). Default: for ever. Streams only.
    pub message: Option<Duration>,
    /// How long a connection may take for all that precedes its handler: the PROXY header and the TLS handshake. It counts
    /// from the moment when the connection was accepted, and ends it however steadily bytes come. A handshake that the
    /// handler begins ([`Reader::start_tls`](crate::Reader)) has as long. Default: 10 s. Only with `proxy(…)` or `tls(…)`.
    pub handshake: Duration,
    /// How long the server goes on accepting after [`shutdown`](crate::ServerHandle::shutdown), while
    /// [`is_ready`](crate::ServerHandle::is_ready) is false: the time that load balancers take to notice, or that
    /// clients take to move to a successor. Default: 0 s.
    pub linger: Duration,
    /// How long a connection that is busy when the server begins to drain may go on, and how long a client may send the rest of
    /// a request that was answered already ([draining](crate::guide::draining)). Then the server cuts it: all reads and
    /// writes of its handler fail, even if the client has sent more than was read. It abandons a
    /// handler that has not returned a second later ([`DrainReport::leaked`](crate::DrainReport::leaked)).
    /// With `"forking"` it sends the child SIGTERM, and SIGKILL a second later. With `"sync"` a handler that does not
    /// return holds up the stop. Default: 25 s, as Kubernetes kills a container after 30 s.
    pub shutdown: Duration,
    /// How often the server calls `service_actions` while no request comes: Python's `poll_interval`. Default: only
    /// between requests, so that an idle server never wakes up.
    pub poll: Option<Duration>,
}

/// The settings of `#[request_handler(…)]` and `#[message_handler(…)]`, decided at run time. What is `None` here is as the
/// attribute says; what is `Some` replaces what the attribute, or a call of a [`Context`](crate::Context), says.
///
/// A setting of what the handler does not have is no error, and changes nothing: `max_line` where no field is a
/// [`Reader`](crate::Reader), as in every message handler, or `mailbox` where none is a [`Mailbox`](crate::Mailbox).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerOptions {
    /// Bounds each read and each write: [`Context::set_timeout`](crate::Context::set_timeout).
    pub timeout: Option<Duration>,
    /// How many bytes a reader receives at once: [`Context::set_rbufsize`](crate::Context::set_rbufsize). Streams only.
    pub rbufsize: Option<usize>,
    /// How many bytes a writer holds back: [`Context::set_wbufsize`](crate::Context::set_wbufsize). Streams only.
    pub wbufsize: Option<usize>,
    /// How long a line can be: [`Context::set_max_line`](crate::Context::set_max_line).
    pub max_line: Option<usize>,
    /// How long a frame can be: [`Context::set_max_frame`](crate::Context::set_max_frame).
    pub max_frame: Option<usize>,
    /// How much mail a mailbox holds: [`Context::set_mailbox`](crate::Context::set_mailbox). Not with `"forking"`.
    pub mailbox: Option<usize>,
}

/// `access(…)`: which clients are let in, by their IP addresses. The network with the longest prefix decides about an address
/// that is in several; one that is on both lists is denied.
///
/// Behind a proxy (`proxy(…)`) it is asked about the client that the proxy names, and about the proxy where it speaks for
/// itself, as in its health checks. A client of a Unix socket that no proxy names has no such address, and is let in.
///
/// A client that is not let in is turned away before [`limits(per_client)`](Limits::per_client) counts it and before
/// `verify_request`: [`TurnedAway::Denied`](crate::TurnedAway::Denied). [`ServerHandle::set_access`](crate::ServerHandle::set_access)
/// changes the lists while the server runs.
///
/// What is known only at run time is parsed then. The lists last as long as the program, about 20 bytes for each network, so
/// that a service that reads them again calls `set_access` only after a change:
///
/// ```
/// use sockserver::{Access, Network};
///
/// fn without(networks: &str) -> Result<Access, sockserver::NotANetwork> {
///     let deny: Vec<Network> = networks.lines().map(str::parse).collect::<Result<_, _>>()?;
///     Ok(Access::new().deny(deny.leak()))
/// }
/// # assert!(without("192.0.2.0/24\n198.51.100.7").is_ok());
/// # assert!(without("192.0.2.1/24").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The networks that are let in, and no others. Default: everybody is.
    pub allow: Option<&'static [Network]>,
    /// The networks that are not let in. Default: none.
    pub deny: Option<&'static [Network]>,
}

/// `proxy(…)`: the proxies in front of the server, which say in a PROXY header who the client is.
///
/// What is known only at run time is parsed then. The list lasts as long as the program:
///
/// ```
/// use sockserver::{Options, ProxyOptions, TrustedProxy};
///
/// fn behind(proxies: &str) -> Result<Options, sockserver::NotANetwork> {
///     let trust: Vec<TrustedProxy> = proxies.split(',').map(str::parse).collect::<Result<_, _>>()?;
///     Ok(Options::new().proxy(ProxyOptions::new().trust(trust.leak())))
/// }
/// # assert!(behind("10.0.0.0/8,unix").is_ok());
/// # assert!(behind("10.0.0.1/8").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyOptions {
    /// The peers that begin each connection with a PROXY header: that of the real client, whose address is the client's from
    /// then on. A connection of such a peer that begins otherwise is ended, so that no client can speak for itself.
    /// `0.0.0.0/0` and `::/0` trust every peer, which is right only where strangers cannot reach the port. Default: no peer
    /// is trusted, and no header is looked for.
    pub trust: Option<&'static [TrustedProxy]>,
    /// What happens to a peer that is not trusted. Default: [`UntrustedPeer::Reject`].
    pub untrusted: UntrustedPeer,
    /// Which versions of the header are accepted. Default: [`ProxyVersions::Both`].
    pub versions: ProxyVersions,
}

/// A peer that is trusted to say who the client is. It is parsed from what `proxy(trust = […])` has: a [`Network`], or
/// `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrustedProxy {
    /// The peers in this network.
    Network(Network),
    /// `"unix"`: all peers on a Unix socket.
    Unix,
}

impl FromStr for TrustedProxy {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<TrustedProxy, NotANetwork> {
        match text {
            "unix" => Ok(TrustedProxy::Unix),
            text => text.parse().map(TrustedProxy::Network),
        }
    }
}

/// What happens to a peer that is not in `proxy(trust = […])`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UntrustedPeer {
    /// `"reject"`: its connection is closed at once.
    #[default]
    Reject,
    /// `"direct"`: it is served as a client of its own. A PROXY header from it is input like any other.
    Direct,
}

/// Which versions of the PROXY header are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyVersions {
    /// `"both"`.
    #[default]
    Both,
    /// `"1"`: the line of text.
    One,
    /// `"2"`: the binary header, which alone has more than addresses.
    Two,
}

/// `tls(…)`: how connections are encrypted. With the feature `tls`.
///
/// A server has TLS if it has a certificate: `certificate` and `key` here, or the hook [`tls`](crate::Server::tls).
#[cfg(feature = "tls")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// The path of the server's certificate in PEM, with the chain behind it. It is read when the server is bound, and on
    /// [`ServerHandle::reload`](crate::ServerHandle::reload). Default: none.
    pub certificate: Option<&'static str>,
    /// The path of the private key of the certificate, in PEM. Default: none.
    pub key: Option<&'static str>,
    /// Whether clients have certificates too. They are verified against `client_ca`, and a
    /// [`PeerCertificate`](crate::PeerCertificate) has what they say. Default: [`ClientAuth::None`].
    pub client_auth: ClientAuth,
    /// The path of the authorities that sign the certificates of clients, in PEM. Default: none.
    pub client_ca: Option<&'static str>,
    /// The protocols above TLS that the server speaks, the preferred one first (ALPN). A client that asks for others only is
    /// refused, one that asks for none is not. Default: none.
    pub alpn: &'static [&'static str],
    /// Which versions of TLS the server speaks. Default: [`TlsVersions::Both`].
    pub versions: TlsVersions,
    /// When the handshake comes. Default: [`TlsStart::Accept`].
    pub start: TlsStart,
    /// How often the files are looked at. When a handshake begins and so much time has passed since the last look, a file that
    /// has changed is read, with the others, as by [`ServerHandle::reload`](crate::ServerHandle::reload): so a certificate that
    /// another program renews is used without a word to this one. If the new files cannot be read, or do not fit together, the old
    /// ones stay, and `handle_error` is called with [`Stage::Reload`](crate::Stage::Reload), once for each change; they are
    /// tried again after the same time. Where the hook `tls` names the certificates, it is
    /// called that often. With `"forking"` each child looks, and reports, for itself. Default: never.
    pub reload: Option<Duration>,
    /// Whether clients get tickets, with which they resume their sessions at less cost. Not with `client_auth`: a resumed
    /// session does not show the certificate again. Default: `true`.
    pub tickets: bool,
}

/// Whether clients have certificates. The strictest is the greatest.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// `"optional"`: a client may have none. A wrong one is refused.
    Optional,
    /// `"required"`: a client without one is refused.
    Required,
}

/// Which versions of TLS a server speaks. Older ones than 1.2 are broken, and not offered.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersions {
    /// `"both"`.
    #[default]
    Both,
    /// `"1.2"`.
    Tls12,
    /// `"1.3"`.
    Tls13,
}

/// When the TLS handshake comes.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsStart {
    /// `"accept"`: the connection begins with it.
    #[default]
    Accept,
    /// `"handler"`: the connection begins in plain text, and the handler calls
    /// [`Reader::start_tls`](crate::Reader::start_tls).
    Handler,
}

impl Options {
    /// The defaults, which the documentation of each field names.
    pub const fn new() -> Options {
        Options {
            socket: SocketOptions::new(),
            limits: Limits::new(),
            timeouts: Timeouts::new(),
            handler: HandlerOptions::new(),
            access: Access::new(),
            proxy: ProxyOptions::new(),
            #[cfg(feature = "tls")]
            tls: TlsOptions::new(),
            workers: None,
            stack_size: None,
            allow_threads: false,
        }
    }

    /// Refuses the values that the attribute refuses while compiling, in the same words.
    pub(crate) fn check(&self) -> io::Result<()> {
        if let Some((path, why)) = self.refusals().next() {
            return Err(refused(format!("the option `{path}` {why}")));
        }
        Ok(())
    }

    /// Refuses the options that mean nothing without a group of options that is not given, as the attribute does.
    pub(crate) fn check_needs(&self, has_tls: bool) -> io::Result<()> {
        let is_given = |group: &&str| match *group {
            "proxy" => self.proxy.trust.is_some(),
            "tls" => has_tls,
            _ => false,
        };
        for (path, is_set, groups, why) in sockserver_macros::dependent_options!(self) {
            if is_set && !groups.iter().any(is_given) {
                let groups = groups.iter().map(|group| format!("`{group}`")).collect::<Vec<_>>().join(" or ");
                return Err(refused(format!("the option `{path}` means nothing without {groups}: {why}")));
            }
        }
        Ok(())
    }

    /// The options with a value that the attribute refuses, and why.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let refusals = sockserver_macros::refused_options!(self);
        refusals.into_iter().filter_map(|(path, is_refused, why)| is_refused.then_some((path, why)))
    }

    /// Refuses the options that mean nothing with this transport or concurrency, as the attribute does. The attribute
    /// has already checked the options that it `declared`, so they pass. `None` stands for a type of the user's own,
    /// which all options fit.
    pub(crate) fn check_composition(
        &self,
        declared: &Options,
        transport: Option<&'static str>,
        concurrency: Option<&'static str>,
    ) -> io::Result<()> {
        for (path, is_given, axis, fitting, why) in sockserver_macros::scoped_options!(self, declared) {
            let chosen = if axis == "transport" { transport } else { concurrency };
            if let Some(word) = chosen.filter(|word| is_given && !fitting.contains(word)) {
                let fitting = fitting.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
                let message =
                    format!("the option `{path}` means nothing with {axis} = \"{word}\", only with {fitting}: {why}");
                return Err(refused(message));
            }
        }
        Ok(())
    }
}

fn refused(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl SocketOptions {
    /// The defaults.
    pub const fn new() -> SocketOptions {
        SocketOptions {
            request_queue_size: 1024,
            allow_reuse_address: true,
            allow_reuse_port: false,
            nodelay: true,
            keepalive: None,
            keepalive_interval: None,
            keepalive_retries: None,
            user_timeout: None,
            defer_accept: None,
            receive_buffer: None,
            send_buffer: None,
            dscp: None,
            device: None,
            only_v6: false,
            max_packet_size: 65_535,
            mode: None,
            unlink: true,
        }
    }
}

impl Limits {
    /// The defaults.
    pub const fn new() -> Limits {
        Limits {
            connections: None,
            per_client: None,
            handshakes: None,
            threads: None,
            rate: None,
            rate_per_client: None,
            on_limit: OnLimit::Wait,
        }
    }
}

impl Timeouts {
    /// The defaults.
    pub const fn new() -> Timeouts {
        Timeouts {
            handle_request: None,
            idle: None,
            lifetime: None,
            message: None,
            handshake: Duration::from_secs(10),
            linger: Duration::ZERO,
            shutdown: Duration::from_secs(25),
            poll: None,
        }
    }
}

impl HandlerOptions {
    /// Everything as the attribute says.
    pub const fn new() -> HandlerOptions {
        HandlerOptions { timeout: None, rbufsize: None, wbufsize: None, max_line: None, max_frame: None, mailbox: None }
    }
}

impl Access {
    /// Everybody is let in.
    pub const fn new() -> Access {
        Access { allow: None, deny: None }
    }
}

impl ProxyOptions {
    /// The defaults.
    pub const fn new() -> ProxyOptions {
        ProxyOptions { trust: None, untrusted: UntrustedPeer::Reject, versions: ProxyVersions::Both }
    }
}

#[cfg(feature = "tls")]
impl TlsOptions {
    /// The defaults.
    pub const fn new() -> TlsOptions {
        TlsOptions {
            certificate: None,
            key: None,
            client_auth: ClientAuth::None,
            client_ca: None,
            alpn: &[],
            versions: TlsVersions::Both,
            start: TlsStart::Accept,
            reload: None,
            tickets: true,
        }
    }
}

/// For each option the method that sets it, and that a constant can call. The first
/// word says which group of the attribute has it.
macro_rules! setters {
    ($($group:literal $options:ident { $($field:ident: $value:ty => $stored:expr,)* })*) => { $(
        impl $options {
            $(
                #[doc = concat!(
                    "Sets ", $group, "`", stringify!($field), "`, which is described at ",
                    "[its field](", stringify!($options), "#structfield.", stringify!($field), ").",
                )]
                #[must_use]
                pub const fn $field(mut self, $field: $value) -> $options {
                    self.$field = $stored;
                    self
                }
            )*
        }

        impl Default for $options {
            fn default() -> $options {
                $options::new()
            }
        }
    )* };
}

setters! {
    "" Options {
        socket: SocketOptions => socket,
        limits: Limits => limits,
        timeouts: Timeouts => timeouts,
        handler: HandlerOptions => handler,
        access: Access => access,
        proxy: ProxyOptions => proxy,
        workers: usize => Some(workers),
        stack_size: usize => Some(stack_size),
        allow_threads: bool => allow_threads,
    }
    "in `socket(…)` " SocketOptions {
        request_queue_size: u32 => request_queue_size,
        allow_reuse_address: bool => allow_reuse_address,
        allow_reuse_port: bool => allow_reuse_port,
        nodelay: bool => nodelay,
        keepalive: Duration => Some(keepalive),
        keepalive_interval: Duration => Some(keepalive_interval),
        keepalive_retries: u32 => Some(keepalive_retries),
        user_timeout: Duration => Some(user_timeout),
        defer_accept: Duration => Some(defer_accept),
        receive_buffer: usize => Some(receive_buffer),
        send_buffer: usize => Some(send_buffer),
        dscp: u32 => Some(dscp),
        device: &'static str => Some(device),
        only_v6: bool => only_v6,
        max_packet_size: usize => max_packet_size,
        mode: u32 => Some(mode),
        unlink: bool => unlink,
    }
    "in `limits(…)` " Limits {
        connections: usize => Some(connections),
        per_client: usize => Some(per_client),
        handshakes: usize => Some(handshakes),
        threads: usize => Some(threads),
        rate: Rate => Some(rate),
        rate_per_client: Rate => Some(rate_per_client),
        on_limit: OnLimit => on_limit,
    }
    "in `timeouts(…)` " Timeouts {
        handle_request: Duration => Some(handle_request),
        idle: Duration => Some(idle),
        lifetime: Duration => Some(lifetime),
        message: Duration => Some(message),
        handshake: Duration => handshake,
        linger: Duration => linger,
        shutdown: Duration => shutdown,
        poll: Duration => Some(poll),
    }
    "in the handler's attribute " HandlerOptions {
        timeout: Duration => Some(timeout),
        rbufsize: usize => Some(rbufsize),
        wbufsize: usize => Some(wbufsize),
        max_line: usize => Some(max_line),
        max_frame: usize => Some(max_frame),
        mailbox: usize => Some(mailbox),
    }
    "in `access(…)` " Access {
        allow: &'static [Network] => Some(allow),
        deny: &'static [Network] => Some(deny),
    }
    "in `proxy(…)` " ProxyOptions {
        trust: &'static [TrustedProxy] => Some(trust),
        untrusted: UntrustedPeer => untrusted,
        versions: ProxyVersions => versions,
    }
}

#[cfg(feature = "tls")]
impl Options {
    /// Sets `tls(…)`.
    #[must_use]
    pub const fn tls(mut self, tls: TlsOptions) -> Options {
        self.tls = tls;
        self
    }
}

#[cfg(feature = "tls")]
setters! {
    "in `tls(…)` " TlsOptions {
        certificate: &'static str => Some(certificate),
        key: &'static str => Some(key),
        client_auth: ClientAuth => client_auth,
        client_ca: &'static str => Some(client_ca),
        alpn: &'static [&'static str] => alpn,
        versions: TlsVersions => versions,
        start: TlsStart => start,
        reload: Duration => Some(reload),
        tickets: bool => tickets,
    }
}
