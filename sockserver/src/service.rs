//! The traits between the runtime and a server: what the runtime calls, and what the fields of a handler are taken from.

use std::{any::Any, fmt, io, sync::Arc, time::Duration};

#[cfg(feature = "tls")]
use crate::tls::certificates::Tls;
use crate::{
    address::Address,
    error::HandlerError,
    event::Event,
    handle::ServerHandle,
    options::HandlerOptions,
    request::{self, AnyRequest, files::Files},
    runner::Handler,
    transport::Transport,
};

/// The type of a server's requests: [`Stream`](crate::Stream) or [`Datagram`](crate::Datagram).
pub type Request<S> = <<S as Service>::Transport as Transport>::Request;

/// What the runtime calls of a server. Implement [`Server`](trait@crate::Server), which implements this one.
///
/// It leaves out how a server is bound and which [`Concurrency`](crate::Concurrency) it has, so that a `Concurrency` and
/// a [`FromRequest`] can be written for any server. Its items are those of `Server`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no server",
    label = "`#[derive(Server)]` or `#[request_handler]` with `#[server(…)]` makes one",
    note = "`#[request_handler] #[server(…)] struct Upper` makes the server `UpperServer`"
)]
pub trait Service: Send + Sync + Sized + 'static {
    /// Where requests come from.
    type Transport: Transport;
    /// What handles one.
    type Handler: Handler<Runner: FromRequest<Self>>;

    /// The function that hears of all events.
    const EVENT: Option<fn(&Self, &Event<'_>)>;

    /// The server is bound.
    fn server_activate(&self, handle: &ServerHandle);
    /// Decides whether a request is handled.
    fn verify_request(&self, request: &Request<Self>, client_address: &Address) -> bool;
    /// A request has failed, or the server itself has.
    fn handle_error(&self, error: &HandlerError, client_address: &Address);
    /// No request came within `timeouts(handle_request)`.
    fn handle_timeout(&self);
    /// A thread is about to wait for a request.
    fn service_actions(&self);
    /// The port is closed, and all requests have ended or been given up.
    fn server_close(&self);
    /// The certificates, where the server makes them at run time.
    #[cfg(feature = "tls")]
    fn tls(&self) -> io::Result<Option<Tls>>;
}

/// What can be taken from a request: the types of a handler's fields, and by `#[request_handler]` the handler itself.
///
/// It is implemented for these types:
///
/// - on all transports [`Reader`](crate::Reader), [`Writer`](crate::Writer), [`Frames`](crate::Frames),
///   [`FrameWriter`](crate::FrameWriter), [`Mailbox`](crate::Mailbox), [`Address`], `Arc<S>` (the server),
///   [`ServerHandle`] and [`ConnectionId`](crate::ConnectionId)
/// - on tcp, unix and stream [`Stream`](crate::Stream), on udp and unix_datagram [`Datagram`](crate::Datagram)
/// - on tcp and udp [`SocketAddr`](std::net::SocketAddr), as the kernel tells it: on a server bound to `[::]` an IPv4 client
///   has an IPv4-mapped one, which [`Address::ip`] makes an IPv4 address
/// - on unix [`PeerCred`](crate::PeerCred)
/// - on all transports an [`Option`] of a `SocketAddr`, on tcp, unix and stream one of a `PeerCred`
/// - behind a proxy (`proxy(…)`) [`ProxyHeader`](crate::ProxyHeader)
/// - with the feature `tls`, on a server with `tls(…)`: `TlsInfo`, `Alpn`, `ServerName`, and with `client_auth`
///   `PeerCertificate`
///
/// Implement it for a type of your own to do what each request needs before its handler runs. The fields of a handler
/// are taken in the order of their declaration, so a field of such a type stands before the handler's own reader:
///
/// ```
/// use sockserver::{Context, EndOfFile, FromRequest, Reader, Server};
/// use std::io;
///
/// /// The first line of a connection.
/// struct Greeting(String);
///
/// impl<S: Server> FromRequest<S> for Greeting {
///     fn from_request(cx: &mut Context<'_, S>) -> io::Result<Greeting> {
///         // What this reader has received and not returned goes to the next reader.
///         let mut reader = Reader::from_request(cx)?;
///         Ok(Greeting(reader.next_line()?.ok_or(EndOfFile)?))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a request to `{S}`",
    label = "no request of this server has one",
    note = "a field of your own is marked `#[default]` or `#[default(value)]`, a handler `#[request_handler]`; or implement \
            `FromRequest` for the type",
    note = "every request has `Reader`, `Writer`, `Frames`, `FrameWriter`, `Mailbox`, `Address`, `ConnectionId`, `ServerHandle` and the server as `Arc<{S}>`; \
            tcp, unix and stream also `Stream`, udp and unix_datagram `Datagram`, tcp and udp `SocketAddr`, unix `PeerCred`; \
            behind a proxy (`proxy(trust = […])`) `ProxyHeader`",
    note = "with the feature `tls` a server with `tls(certificate = …, key = …)` or `hooks(tls = …)` also has `TlsInfo`, `Alpn` and `ServerName`, with \
            `client_auth = \"required\"` `PeerCertificate`, with `client_auth = \"optional\"` `Option<PeerCertificate>`; with \
            `start = \"handler\"` it has none of them: ask the `Stream` after `start_tls`"
)]
pub trait FromRequest<S: Service>: Sized {
    /// Whether other requests use the value, in the memory of the process, as they use a [`Mailbox`](crate::Mailbox). A
    /// server that forks cannot be bound with such a handler.
    const NEEDS_SHARED_MEMORY: bool = false;

    /// Takes the value. An error ends the request before `setup`.
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Self>;
}

/// A server that proxies stand in front of: `#[server(proxy(…))]` implements it. A [`ProxyHeader`](crate::ProxyHeader) can
/// be taken from its requests.
///
/// Implement it for a server that is written without the macro, and whose options have
/// [`proxy.trust`](crate::ProxyOptions::trust).
#[diagnostic::on_unimplemented(
    message = "a `ProxyHeader` cannot be taken from a request to `{Self}`",
    label = "this server reads no PROXY header",
    note = "name the proxies in front of it: `#[server(…, proxy(trust = [\"10.0.0.0/8\"]))]`"
)]
pub trait BehindProxy: Service {}

/// A server whose connections are encrypted when their handlers start: `#[server(tls(…))]` implements it. [`TlsInfo`],
/// [`Alpn`] and [`ServerName`] can be taken from its requests.
///
/// Implement it for a server that is written without the macro, and whose options or hook name a certificate.
///
/// [`TlsInfo`]: crate::TlsInfo
/// [`Alpn`]: crate::Alpn
/// [`ServerName`]: crate::ServerName
#[cfg(feature = "tls")]
#[diagnostic::on_unimplemented(
    message = "what a TLS handshake says cannot be taken from a request to `{Self}`",
    label = "no handshake comes before this handler",
    note = "give the server a certificate: `#[server(…, tls(certificate = \"cert.pem\", key = \"key.pem\"))]`",
    note = "with `tls(start = \"handler\")` the handler asks for it after `start_tls`: `Stream::tls_info` and the like"
)]
pub trait Encrypted: Service {}

/// A server that asks its clients for certificates: `tls(client_auth = …)` implements it. An
/// `Option<`[`PeerCertificate`](crate::PeerCertificate)`>` can be taken from its requests.
#[cfg(feature = "tls")]
#[diagnostic::on_unimplemented(
    message = "a `PeerCertificate` cannot be taken from a request to `{Self}`",
    label = "this server does not ask its clients for certificates",
    note = "have them asked: `#[server(…, tls(…, client_auth = \"required\", client_ca = \"ca.pem\"))]`"
)]
pub trait AsksForCertificates: Encrypted {}

/// A server whose clients all have certificates: `tls(client_auth = "required")` implements it. A
/// [`PeerCertificate`](crate::PeerCertificate) can be taken from its requests.
#[cfg(feature = "tls")]
#[diagnostic::on_unimplemented(
    message = "a `PeerCertificate` cannot be taken from every request to `{Self}`",
    label = "a client of this server need not have one",
    note = "take an `Option<PeerCertificate>` with `tls(…, client_auth = \"optional\", client_ca = \"ca.pem\")`, or write \
            `client_auth = \"required\"`"
)]
pub trait RequiresCertificates: AsksForCertificates {}

/// A request whose handler is being made. [`FromRequest`] takes the handler and its fields from it.
///
/// What [`Options::handler`](crate::Options::handler) says wins over the setters.
pub struct Context<'a, S: Service> {
    request: &'a Request<S>,
    server: &'a Arc<S>,
    handle: &'a ServerHandle,
    /// What was decided at run time, and wins over what the setters are called with.
    options: &'a HandlerOptions,
    pub(crate) files: Files,
    /// What fields have left for later fields: at most one value of each type.
    storage: Vec<Box<dyn Any>>,
}

/// The receive buffer of a socket is no larger, so a larger reader would receive no more at once.
const MAX_RBUFSIZE: usize = 16 << 20;

impl<S: Service> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("client_address", self.client_address()).finish_non_exhaustive()
    }
}

impl<'a, S: Service> Context<'a, S> {
    pub(crate) fn new(
        request: &'a Request<S>,
        server: &'a Arc<S>,
        handle: &'a ServerHandle,
        options: &'a HandlerOptions,
    ) -> io::Result<Context<'a, S>> {
        let mut cx = Context { request, server, handle, options, files: Files::default(), storage: Vec::new() };
        let Files { rbufsize, wbufsize, max_line, max_frame, mailbox } = cx.files;
        cx.set_rbufsize(rbufsize);
        cx.set_wbufsize(wbufsize);
        cx.set_max_line(max_line);
        cx.set_max_frame(max_frame);
        cx.set_mailbox(mailbox);
        if let Some(timeout) = options.timeout {
            cx.set_timeout(timeout)?;
        }
        Ok(cx)
    }

    /// The request itself: a [`Stream`](crate::Stream) or a datagram.
    pub fn request(&self) -> &'a Request<S> {
        self.request
    }

    /// Where the request comes from.
    pub fn client_address(&self) -> &'a Address {
        self.request.client_address()
    }

    /// The server that the request came to.
    pub fn server(&self) -> &'a Arc<S> {
        self.server
    }

    /// The handle that steers the server.
    pub fn handle(&self) -> &'a ServerHandle {
        self.handle
    }

    /// Bounds each read and each write of the request, as `#[request_handler(timeout = …)]` does: the `timeout` of
    /// Python's `StreamRequestHandler`. It also bounds the wait between two requests: a client that is silent for longer is
    /// an error, and `closing` is not called. A `timeout` below [`timeouts(idle)`](crate::Timeouts::idle) makes `idle`
    /// useless. On a datagram it bounds how long each reply waits for room in the client's queue,
    /// which is one second by default.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a duration of zero, on a stream.
    pub fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        request::kind(self.request).set_timeout(self.options.timeout.unwrap_or(timeout))
    }

    /// How many bytes a [`Reader`](crate::Reader) that is taken from here on receives at once, as `rbufsize` does: 16 MiB at most.
    /// Default: 8 KiB. A read into a buffer that is no smaller bypasses the reader's own.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero: nothing could be received.
    pub fn set_rbufsize(&mut self, bytes: usize) {
        assert!(bytes > 0, "an rbufsize of zero could receive nothing");
        self.files.rbufsize = self.options.rbufsize.unwrap_or(bytes).min(MAX_RBUFSIZE);
    }

    /// How many bytes a [`Writer`](crate::Writer) that is taken from here on holds back, as `wbufsize` does. With zero it
    /// sends every write at once. Default: 8 KiB (Python: 0).
    pub fn set_wbufsize(&mut self, bytes: usize) {
        self.files.wbufsize = self.options.wbufsize.unwrap_or(bytes);
    }

    /// How long a line a [`Reader`](crate::Reader) that is taken from here on accepts, in bytes without the `\n` at its end, as
    /// `max_line` does. Default: 64 KiB.
    pub fn set_max_line(&mut self, bytes: usize) {
        self.files.max_line = self.options.max_line.unwrap_or(bytes);
    }

    /// How long the payload of a frame is that a [`Frames`](crate::Frames) that is taken from here on accepts, as
    /// `max_frame` does. Default: 64 KiB.
    pub fn set_max_frame(&mut self, bytes: usize) {
        self.files.max_frame = self.options.max_frame.unwrap_or(bytes);
    }

    /// How much mail a [`Mailbox`](crate::Mailbox) that is taken from here on holds, as `mailbox` does. Default: 128.
    ///
    /// # Panics
    ///
    /// If `mails` is zero: nothing could be sent.
    pub fn set_mailbox(&mut self, mails: usize) {
        assert!(mails > 0, "a mailbox of zero could hold nothing");
        self.files.mailbox = self.options.mailbox.unwrap_or(mails);
    }

    /// Leaves a value for the fields that are taken after this one. It replaces an earlier value of its type, and returns
    /// that.
    ///
    /// ```
    /// use sockserver::{Context, EndOfFile, FromRequest, Reader, Server};
    /// use std::io;
    ///
    /// /// The user, from the first line of the connection.
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// impl<S: Server> FromRequest<S> for User {
    ///     fn from_request(cx: &mut Context<'_, S>) -> io::Result<User> {
    ///         if let Some(user) = cx.get::<User>() {
    ///             return Ok(user.clone());
    ///         }
    ///         let name = Reader::from_request(cx)?.next_line()?.ok_or(EndOfFile)?;
    ///         let user = User(name);
    ///         cx.insert(user.clone());
    ///         Ok(user)
    ///     }
    /// }
    ///
    /// /// What the user may do. A handler can have both fields, in either order.
    /// struct Rights {
    ///     can_write: bool,
    /// }
    ///
    /// impl<S: Server> FromRequest<S> for Rights {
    ///     fn from_request(cx: &mut Context<'_, S>) -> io::Result<Rights> {
    ///         let User(name) = User::from_request(cx)?;
    ///         Ok(Rights { can_write: name == "root" })
    ///     }
    /// }
    /// ```
    pub fn insert<T: 'static>(&mut self, value: T) -> Option<T> {
        let before = self.remove::<T>();
        self.storage.push(Box::new(value));
        before
    }

    /// The value of this type that an earlier field has left.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.storage.iter().find_map(|value| value.downcast_ref())
    }

    /// The value of this type that an earlier field has left, to change it.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.storage.iter_mut().find_map(|value| value.downcast_mut())
    }

    /// Takes the value of this type that an earlier field has left.
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        let position = self.storage.iter().position(|value| value.is::<T>())?;
        self.storage.swap_remove(position).downcast().ok().map(|value| *value)
    }
}
