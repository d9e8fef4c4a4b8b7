//! The trait that `#[derive(Server)]` implements.

use std::{
    error::Error,
    io::{self, Write},
    os::fd::OwnedFd,
};

use crate::{
    acceptor::Acceptor,
    address::Address,
    concurrency::{self, Concurrency},
    error::{HandlerError, Stage},
    handle::ServerHandle,
    handler::RequestHandler,
    job::Job,
    options::Options,
    request::stream::Stream,
    service::{FromRequest, Request, Service},
    socket_server::SocketServer,
    transport::{self, BindTo, StreamTransport, Transport},
};

/// A server: what all its requests share, of what it is composed, and its hooks. Python's `BaseServer`.
///
/// `#[derive(Server)]` implements it from the `#[server(…)]` attribute. The hooks are called on one thread or several,
/// never under a lock. A panic in one goes no further: in `verify_request` it turns the client away and is told to
/// `handle_error`, in `server_activate` it is an error of `bind`, and in the others it changes nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no server",
    label = "`#[derive(Server)]` or `#[request_handler]` with `#[server(…)]` makes one",
    note = "`#[request_handler] #[server(…)] struct Upper` makes the server `UpperServer`"
)]
pub trait Server: Send + Sync + Sized + 'static {
    /// Where requests come from: the key `transport`.
    type Transport: Transport;
    /// How they are served side by side: the key `concurrency`.
    type Concurrency: Concurrency + Default;
    /// What handles one: the key `handler`. Python's `RequestHandlerClass`.
    type Handler: RequestHandler + FromRequest<Self>;
    /// The options given in the attribute, and the defaults of the others.
    const OPTIONS: Options;

    /// Called when the server is bound and about to be returned from [`bind`](Self::bind): Python's `server_activate`.
    /// Here a server can keep its handle, to be used by its other hooks.
    fn server_activate(&self, _handle: &ServerHandle) {}

    /// Decides whether a request is handled: Python's `verify_request`. A stream server gets a [`Stream`], a datagram
    /// server a [`Datagram`](crate::Datagram). It is called on the thread that has accepted it: with `"sync"` and
    /// `"forking"` nothing else is accepted meanwhile; with the others, other threads accept.
    fn verify_request(&self, _request: &Request<Self>, _client_address: &Address) -> bool {
        true
    }

    /// Called when a request has failed, and when the server has trouble itself, as the
    /// [`stage`](HandlerError::stage) says: Python's `handle_error`. Unless it is overridden it prints one line to
    /// standard error, and none for a client that has hung up. Where standard error is closed or full the line is lost.
    fn handle_error(&self, error: &HandlerError, client_address: &Address) {
        if error.is_disconnect() {
            return;
        }
        let has_client = !matches!(error.stage(), Stage::GetRequest | Stage::Serve);
        let of_whom = if has_client { "request from" } else { "server at" };
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        // What a client has sent may be part of it, and is not to make lines of its own.
        let line = format!("sockserver: {of_whom} {client_address}: {error}{cause}").replace(char::is_control, " ");
        // Where it cannot be printed it is lost: `eprintln` would panic.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Called when [`handle_request`](SocketServer::handle_request) has waited for `timeouts(handle_request)`: Python's
    /// `handle_timeout`.
    fn handle_timeout(&self) {}

    /// Called each time before a thread of [`serve_forever`](SocketServer::serve_forever) waits for a request, and
    /// every `timeouts(poll)` while the server waits: Python's `service_actions`.
    fn service_actions(&self) {}

    /// Called when the port is closed and all requests have ended or been given up: Python's `server_close`.
    fn server_close(&self) {}

    /// Binds a socket, with the options of the attribute. Port 0 picks a free one, which
    /// [`server_address`](SocketServer::server_address) tells.
    ///
    /// Clients can connect from here on, and wait until the server serves.
    ///
    /// # Errors
    ///
    /// Those of the system, with the address in the message and the [`kind`](io::Error::kind) kept:
    /// [`AddrInUse`](io::ErrorKind::AddrInUse), for example. What `server_activate` panics with.
    fn bind<A: BindTo<Self::Transport>>(self, address: A) -> io::Result<SocketServer<Self>> {
        self.bind_with(address, Self::OPTIONS)
    }

    /// Binds a socket, with options that were decided at run time.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); [`io::ErrorKind::InvalidInput`] for options that the attribute would refuse: those with
    /// which nothing could be served, and those that mean nothing with this transport or this concurrency. A transport or
    /// concurrency of your own fits all.
    fn bind_with<A: BindTo<Self::Transport>>(self, address: A, options: Options) -> io::Result<SocketServer<Self>> {
        self.bind_as(address, options, Self::Concurrency::default())
    }

    /// Binds a socket, and serves by a concurrency that was made at run time: one that holds a thread pool, for example,
    /// or another one than that of the attribute.
    ///
    /// ```
    /// # use sockserver::{HandlerResult, RequestHandler, Writer, request_handler};
    /// use sockserver::{Options, Server, concurrency::{Synchronous, Threading}};
    ///
    /// # #[request_handler]
    /// # #[server(transport = "tcp", concurrency = "threading")]
    /// # struct Hello {
    /// #     wfile: Writer,
    /// # }
    /// # impl RequestHandler for Hello {
    /// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
    /// # }
    /// # fn main() -> std::io::Result<()> {
    /// let is_debugged = std::env::var_os("ONE_AT_A_TIME").is_some();
    /// let server = match is_debugged {
    ///     true => HelloServer.bind_as("127.0.0.1:0", Options::new(), Synchronous)?,
    ///     false => HelloServer.bind_as("127.0.0.1:0", Options::new(), Threading::default())?,
    /// };
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`bind_with`](Self::bind_with).
    fn bind_as<A: BindTo<Self::Transport>, C: Concurrency>(
        self,
        address: A,
        options: Options,
        concurrency: C,
    ) -> io::Result<SocketServer<Self>> {
        check_options::<Self, C>(&options)?;
        SocketServer::new(self, address.server_bind(&options)?, options, concurrency)
    }

    /// Serves on a socket that was bound elsewhere: inherited from systemd, or from a process that is being replaced.
    ///
    /// A stream socket need not listen yet. Python's `bind_and_activate=False` serves the same end. Sockets that have
    /// only a number, as systemd counts them from 3 on, are owned first: [`FromRawFd`](std::os::fd::FromRawFd).
    ///
    /// ```no_run
    /// # use sockserver::{HandlerResult, RequestHandler, Writer, request_handler};
    /// use sockserver::Server;
    /// use std::{io, os::fd::AsFd};
    ///
    /// # #[request_handler]
    /// # #[server(transport = "tcp", concurrency = "threading")]
    /// # struct Hello {
    /// #     wfile: Writer,
    /// # }
    /// # impl RequestHandler for Hello {
    /// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
    /// # }
    /// # fn main() -> io::Result<()> {
    /// // Passed as the standard input: `StandardInput=socket` in a unit of systemd, `wait` in inetd.conf.
    /// let socket = io::stdin().as_fd().try_clone_to_owned()?;
    /// HelloServer.with_listener(socket, HelloServer::OPTIONS)?.serve_forever()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a socket of another transport. What `server_activate` panics with.
    fn with_listener(self, socket: impl Into<OwnedFd>, options: Options) -> io::Result<SocketServer<Self>> {
        check_options::<Self, Self::Concurrency>(&options)?;
        let listener = Self::Transport::from_listener(socket.into(), &options)
            .map_err(|error| cannot("serve on the socket", error))?;
        SocketServer::new(self, listener, options, Self::Concurrency::default())
    }

    /// Handles one connection that was accepted elsewhere, by inetd or a socket pair, on this thread.
    ///
    /// Of the hooks `verify_request` and at the end `server_close` are called; `server_activate` is not, as nothing is
    /// bound, and `handle_error` is not, as the error is returned.
    ///
    /// # Errors
    ///
    /// What the handler has failed with. With [`Stage::GetRequest`]: the descriptor is no connected socket, or one of
    /// datagrams, or the options are nonsense.
    fn serve_connection(self, stream: impl Into<OwnedFd>) -> Result<(), HandlerError>
    where
        Self::Transport: StreamTransport,
    {
        self.serve_connection_with(stream, Self::OPTIONS)
    }

    /// As [`serve_connection`](Self::serve_connection), with options that were decided at run time.
    ///
    /// # Errors
    ///
    /// As `serve_connection`.
    fn serve_connection_with(self, stream: impl Into<OwnedFd>, options: Options) -> Result<(), HandlerError>
    where
        Self::Transport: StreamTransport,
    {
        let cannot_serve = |error| HandlerError::new(Stage::GetRequest, cannot("serve the connection", error));
        options.check().map_err(cannot_serve)?;
        let socket = socket2::Socket::from(stream.into());
        let (client_address, server_address) = connected(&socket).map_err(cannot_serve)?;
        let acceptor = Acceptor::unbound(self, server_address, options).map_err(cannot_serve)?;
        let stream = Stream::new(socket, client_address);
        let served = match acceptor.admit(&stream) {
            Ok(()) => Job::new(&acceptor, stream).verify().map_or(Ok(()), Job::process_here),
            Err(_) => Ok(()),
        };
        acceptor.close();
        served
    }
}

impl<S: Server> Service for S {
    type Transport = S::Transport;
    type Handler = S::Handler;

    fn server_activate(&self, handle: &ServerHandle) {
        Server::server_activate(self, handle);
    }

    fn verify_request(&self, request: &Request<S>, client_address: &Address) -> bool {
        Server::verify_request(self, request, client_address)
    }

    fn handle_error(&self, error: &HandlerError, client_address: &Address) {
        Server::handle_error(self, error, client_address);
    }

    fn handle_timeout(&self) {
        Server::handle_timeout(self);
    }

    fn service_actions(&self) {
        Server::service_actions(self);
    }

    fn server_close(&self) {
        Server::server_close(self);
    }
}

/// Refuses what the attribute would refuse.
fn check_options<S: Server, C: Concurrency>(options: &Options) -> io::Result<()> {
    options.check()?;
    options.check_composition(&S::OPTIONS, transport::word::<S::Transport>(), concurrency::word::<C>())
}

/// Both ends of a connection.
fn connected(socket: &socket2::Socket) -> io::Result<(Address, Address)> {
    let client_address = Address::from_sockaddr(&socket.peer_addr()?)?;
    let server_address = Address::from_sockaddr(&socket.local_addr()?)?;
    // A packet is no end of a file, and a datagram socket never has one.
    if socket.r#type()? == socket2::Type::DGRAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a datagram socket"));
    }
    socket.set_nonblocking(false)?;
    Ok((client_address, server_address))
}

/// Says what could not be done, and keeps the kind of the error.
fn cannot(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}
