//! The trait that `#[derive(Server)]` implements.

#[cfg(feature = "tls")]
use std::any;
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
    event::Event,
    handle::ServerHandle,
    job::Job,
    options::Options,
    request::stream::Stream,
    runner::Handler,
    service::{FromRequest, Request, Service},
    socket_server::SocketServer,
    sys,
    transport::{self, BindTo, StreamTransport, Transport},
};
#[cfg(feature = "tls")]
use crate::{
    tls::certificates::Tls,
    unwind::{self, ServerId},
};

/// A server: what all its requests share, its composition, and its hooks. Python's `BaseServer`.
///
/// `#[derive(Server)]` implements it from the `#[server(…)]` attribute. Several threads may call the hooks at once, and
/// never under a lock of the server. A panic in a hook is caught. In `verify_request` it turns the client away and goes to
/// `handle_error`, in `server_activate` it becomes an error of `bind`, and in the other hooks it has no effect.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no server",
    label = "`#[derive(Server)]` or `#[request_handler]` with `#[server(…)]` makes one",
    note = "`#[request_handler] #[server(…)] struct Upper` makes the server `UpperServer`"
)]
pub trait Server: Send + Sync + Sized + 'static {
    /// Where requests come from: the key `transport`.
    type Transport: Transport;
    /// How requests are served side by side: the key `concurrency`.
    type Concurrency: Concurrency + Default;
    /// What handles a request: the key `handler`. Python's `RequestHandlerClass`.
    type Handler: Handler<Runner: FromRequest<Self>>;
    /// The options given in the attribute, and the defaults of the others.
    const OPTIONS: Options;

    /// The function that is called with all that happens in the server: the key `hooks(event)`. See [`Event`].
    ///
    /// It should return soon: the thread that it runs on goes on then. With `"forking"` it is the parent's. It is a constant,
    /// not a method as the other hooks, so that a server without one does nothing for events.
    const EVENT: Option<fn(&Self, &Event<'_>)> = None;

    /// Called when the server is bound, before [`bind`](Self::bind) returns: Python's `server_activate`. Here a server can
    /// keep its handle for its other hooks.
    fn server_activate(&self, _handle: &ServerHandle) {}

    /// Decides whether a request is handled: Python's `verify_request`. A stream server gets a [`Stream`], a datagram
    /// server a [`Datagram`](crate::Datagram). The thread that has accepted the request calls it. With `"sync"` and
    /// `"forking"` the server accepts nothing else meanwhile; with the others, another thread accepts. Behind a proxy
    /// (`proxy(…)`) the thread or the child that serves the request calls it, when the proxy has named the client.
    fn verify_request(&self, _request: &Request<Self>, _client_address: &Address) -> bool {
        true
    }

    /// Called when a request or the server itself has failed, as the [`stage`](HandlerError::stage) says: Python's
    /// `handle_error`.
    ///
    /// By default it prints one line to standard error, and none for a client that has hung up. The line is lost if
    /// standard error is closed or full. A hook of your own gets the errors of clients that have hung up too: ask
    /// [`error.is_disconnect()`](HandlerError::is_disconnect).
    fn handle_error(&self, error: &HandlerError, client_address: &Address) {
        if error.is_disconnect() {
            return;
        }
        let has_client = !matches!(error.stage(), Stage::GetRequest | Stage::Reload | Stage::Serve);
        let of_whom = if has_client { "request from" } else { "server at" };
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        // The cause may quote what a client has sent, which must not add lines.
        let line = format!("sockserver: {of_whom} {client_address}: {error}{cause}").replace(char::is_control, " ");
        // `eprintln` would panic if standard error is closed.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Called when [`handle_request`](SocketServer::handle_request) got no request within `timeouts(handle_request)`:
    /// Python's `handle_timeout`.
    fn handle_timeout(&self) {}

    /// Called each time before a thread of [`serve_forever`](SocketServer::serve_forever) waits for a request, and
    /// every `timeouts(poll)` while the server waits: Python's `service_actions`.
    fn service_actions(&self) {}

    /// Makes the certificates at run time, in place of `tls(certificate = …, key = …)`: it is called when the server is
    /// bound, and on each [`ServerHandle::reload`]. `None`: the options name the files, or the server has no TLS. The hook
    /// `hooks(tls = Self::certificates)` is a function that returns an [`io::Result<Tls>`](Tls).
    ///
    /// # Errors
    ///
    /// When the server is bound, binding fails with it. On a reload the old certificates stay, and `reload` returns it.
    #[cfg(feature = "tls")]
    fn tls(&self) -> io::Result<Option<Tls>> {
        Ok(None)
    }

    /// Called when the port is closed and all requests have ended or been given up: Python's `server_close`.
    fn server_close(&self) {}

    /// Binds a socket, or [several](BindTo#several-sockets), with the options of the attribute. Port 0 picks a free port, which
    /// [`server_address`](SocketServer::server_address) returns.
    ///
    /// Clients can connect from now on, and wait until the server serves.
    ///
    /// # Errors
    ///
    /// Errors of the system keep their [`kind`](io::Error::kind), such as [`AddrInUse`](io::ErrorKind::AddrInUse), and have
    /// the address in their message. A panic of `server_activate` is an error of the kind
    /// [`Other`](io::ErrorKind::Other).
    fn bind<A: BindTo<Self::Transport>>(self, address: A) -> io::Result<SocketServer<Self>> {
        self.bind_with(address, Self::OPTIONS)
    }

    /// Binds a socket, with options that were decided at run time.
    ///
    /// These options are used in place of the attribute's. Begin with [`Self::OPTIONS`](Self::OPTIONS) and change it:
    /// [`Options::new`] has none of its limits, access lists or TLS.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind), and [`io::ErrorKind::InvalidInput`] for options that the attribute would refuse:
    /// values with which nothing could be served, and options that mean nothing with this transport or concurrency. A
    /// transport or a concurrency of your own accepts all options. Options without the TLS of the attribute, or with a lower
    /// `client_auth`, are refused too: the handlers count on them.
    fn bind_with<A: BindTo<Self::Transport>>(self, address: A, options: Options) -> io::Result<SocketServer<Self>> {
        self.bind_as(address, options, Self::Concurrency::default())
    }

    /// Binds a socket, and serves with a concurrency that was made at run time: a value that holds a thread pool, for
    /// example, or another concurrency than the attribute's.
    ///
    /// ```
    /// # use sockserver::{HandlerResult, RequestHandler, Writer, request_handler};
    /// use sockserver::{Server, concurrency::{Synchronous, Threading}};
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
    ///     true => HelloServer.bind_as("127.0.0.1:0", HelloServer::OPTIONS, Synchronous)?,
    ///     false => HelloServer.bind_as("127.0.0.1:0", HelloServer::OPTIONS, Threading::default())?,
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
        check_options::<Self, C>(&self, &options)?;
        SocketServer::new(self, address.server_bind(&options, &[])?, options, concurrency)
    }

    /// Serves on a socket that was bound elsewhere. For the sockets of systemd, [`inherited`](crate::inherited) is simpler.
    ///
    /// A stream socket need not listen yet; one that listens keeps the length of its queue. Python's
    /// `bind_and_activate=False` has the same purpose.
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
    /// [`io::ErrorKind::InvalidInput`] for a socket of another transport, and the errors of [`bind_with`](Self::bind_with).
    fn with_listener(self, socket: impl Into<OwnedFd>, options: Options) -> io::Result<SocketServer<Self>> {
        check_options::<Self, Self::Concurrency>(&self, &options)?;
        let listener = Self::Transport::from_listener(socket.into(), &options)
            .map_err(|error| cannot("serve on the socket", error))?;
        SocketServer::new(self, vec![listener], options, Self::Concurrency::default())
    }

    /// Handles one connection that was accepted elsewhere, by inetd or a socket pair, on this thread.
    ///
    /// It calls the hooks `verify_request` and, at the end, `server_close`. It does not call `server_activate`, as nothing
    /// is bound, nor `handle_error`, as it returns the error.
    ///
    /// # Errors
    ///
    /// The error of the handler, or the panic of `verify_request`. The stage [`Stage::GetRequest`] means that the descriptor is no connected stream socket,
    /// or that the options are invalid.
    fn serve_connection(self, stream: impl Into<OwnedFd>) -> Result<(), HandlerError>
    where
        Self::Transport: StreamTransport,
    {
        self.serve_connection_with(stream, Self::OPTIONS)
    }

    /// Serves what inetd, or systemd with `StandardInput=socket`, has passed as the standard input: one connection (`nowait`,
    /// `Accept=yes`), or a listening socket (`wait`, `Accept=no`), on which it serves forever.
    ///
    /// Where the standard output and the standard error are the same socket, they and the standard input become `/dev/null`:
    /// what the program prints must not reach a client.
    ///
    /// ```no_run
    /// # use sockserver::{HandlerError, HandlerResult, RequestHandler, Writer, request_handler};
    /// use sockserver::Server;
    ///
    /// # #[request_handler]
    /// # #[server(transport = "tcp", concurrency = "threading")]
    /// # struct Hello {
    /// #     wfile: Writer,
    /// # }
    /// # impl RequestHandler for Hello {
    /// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
    /// # }
    /// fn main() -> Result<(), HandlerError> {
    ///     HelloServer.serve_inetd()
    /// }
    /// ```
    ///
    /// A datagram server takes the socket of inetd by [`with_listener`](Self::with_listener).
    ///
    /// # Errors
    ///
    /// Those of [`serve_connection`](Self::serve_connection) for a connection. The stage [`Stage::Serve`] means that the
    /// standard input is no socket of this transport, or that the listening socket is broken.
    fn serve_inetd(self) -> Result<(), HandlerError>
    where
        Self::Transport: StreamTransport,
    {
        let cannot_serve = |error| HandlerError::new(Stage::Serve, cannot("serve the standard input", error));
        match sys::take_standard_socket().map_err(cannot_serve)? {
            (socket, true) => self
                .with_listener(socket, Self::OPTIONS)
                .and_then(SocketServer::serve_forever)
                .map_err(|error| HandlerError::new(Stage::Serve, error)),
            (socket, false) => self.serve_connection(socket),
        }
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
        #[cfg(feature = "tls")]
        check_tls(&self, &options).map_err(cannot_serve)?;
        let socket = socket2::Socket::from(stream.into());
        let (client_address, server_address) = connected(&socket).map_err(cannot_serve)?;
        let acceptor = Acceptor::unbound(
            self,
            server_address,
            options,
            Box::new(|_| Some(1)),
            #[cfg(feature = "tls")]
            None,
        )
        .map_err(cannot_serve)?;
        let stream = Stream::new(socket, client_address);
        let served = match acceptor.admit(&stream) {
            Ok(()) => Job::new(&acceptor, stream).verify_and_process(),
            Err(why) => {
                acceptor.reject(stream, why);
                Ok(())
            }
        };
        acceptor.close();
        served
    }
}

impl<S: Server> Service for S {
    type Transport = S::Transport;
    type Handler = S::Handler;
    const EVENT: Option<fn(&S, &Event<'_>)> = S::EVENT;

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

    #[cfg(feature = "tls")]
    fn tls(&self) -> io::Result<Option<Tls>> {
        Server::tls(self)
    }
}

/// Refuses what the attribute would refuse.
#[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "the server is asked for its certificates only"))]
pub(crate) fn check_options<S: Server, C: Concurrency>(server: &S, options: &Options) -> io::Result<()> {
    if concurrency::word::<C>() == Some("event_loop") && !<S::Handler as Handler>::HANDLES_MESSAGES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the handler handles whole connections, which an event loop cannot wait in: implement `MessageHandler`, or \
             use concurrency = \"threading\"",
        ));
    }
    if C::FORKS && <<S::Handler as Handler>::Runner as FromRequest<S>>::NEEDS_SHARED_MEMORY {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the handler has a mailbox, which is in the memory of one process, and concurrency = \"forking\" has a process \
             for each request: use \"threading\" or \"pool\"",
        ));
    }
    options.check()?;
    #[cfg(feature = "tls")]
    check_tls(server, options)?;
    options.check_composition(&S::OPTIONS, transport::word::<S::Transport>(), concurrency::word::<C>())
}

/// Refuses options that lack the TLS which the attribute has promised to the handler: its connections would be in plain text,
/// or without the certificates that its fields are taken from.
#[cfg(feature = "tls")]
fn check_tls<S: Server>(server: &S, options: &Options) -> io::Result<()> {
    let (declared, given) = (&S::OPTIONS.tls, &options.tls);
    // An error or a panic of the hook is reported when the server calls it.
    let has_no_hook = || matches!(unwind::run(ServerId::new(), || server.tls()), Ok(Ok(None)));
    let missing = if given.client_auth < declared.client_auth {
        "`tls(client_auth)`"
    } else if declared.certificate.is_some() && given.certificate.is_none() && has_no_hook() {
        "`tls(certificate)`"
    } else {
        return Ok(());
    };
    // Without the path of the module and the parameters of the type.
    let name = any::type_name::<S>().split('<').next().and_then(|path| path.rsplit("::").next()).unwrap_or_default();
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{missing} of the attribute is missing in these options: begin with `{name}::OPTIONS`"),
    ))
}

/// Both ends of a connection.
fn connected(socket: &socket2::Socket) -> io::Result<(Address, Address)> {
    let client_address = Address::from_sockaddr(&socket.peer_addr()?)?;
    let server_address = Address::from_sockaddr(&socket.local_addr()?)?;
    // A datagram socket has no end of file.
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
