//! The trait that `#[derive(Server)]` implements.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
};

use crate::{
    acceptor::Acceptor,
    address::Address,
    concurrency::Concurrency,
    handle::ServerHandle,
    handler::{FromRequest, HandlerError, RequestHandler, Stage},
    options::Options,
    socket_server::SocketServer,
    stream::Stream,
    transport::{BindTo, StreamTransport, Transport},
};

/// What the requests of a server are: [`Stream`] or [`Datagram`](crate::Datagram).
pub type Request<S> = <<S as Server>::Transport as Transport>::Request;

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
    type Concurrency: Concurrency;
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

    /// Called when a request has failed, and when the server has trouble itself, which the
    /// [`stage`](HandlerError::stage) tells: Python's `handle_error`. Unless it is overridden it prints one line to
    /// standard error, and none for a client that has hung up. Where standard error is closed or full the
    /// line is lost.
    fn handle_error(&self, error: &HandlerError, client_address: &Address) {
        if !error.is_disconnect() {
            let has_client = !matches!(error.stage(), Stage::GetRequest | Stage::Serve);
            let of_whom = if has_client { "request from" } else { "server at" };
            // What a client has sent may be part of it, and is not to make lines of its own.
            let line = format!("sockserver: {of_whom} {client_address}: {error}").replace(char::is_control, " ");
            // Where it cannot be printed it is lost: `eprintln` would panic.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Called when [`handle_request`](SocketServer::handle_request) has waited for `timeouts(request)`: Python's
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

    /// Binds a socket, with options that were decided at run time. Those that mean nothing for this transport or
    /// concurrency are ignored.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); [`io::ErrorKind::InvalidInput`] for options with which nothing could be served.
    fn bind_with<A: BindTo<Self::Transport>>(self, address: A, options: Options) -> io::Result<SocketServer<Self>> {
        options.check()?;
        SocketServer::new(self, address.server_bind(&options)?, options)
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
    /// HelloServer.adopt(socket, HelloServer::OPTIONS)?.serve_forever()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a socket of another transport. What `server_activate` panics with.
    fn adopt(self, socket: impl Into<OwnedFd>, options: Options) -> io::Result<SocketServer<Self>> {
        options.check()?;
        let listener =
            Self::Transport::adopt(socket.into(), &options).map_err(|error| cannot("adopt the socket", error))?;
        SocketServer::new(self, listener, options)
    }

    /// Handles one connection that was accepted elsewhere, by inetd or a socket pair, on this thread.
    ///
    /// Of the hooks `verify_request`, `handle_error` and at the end `server_close` are called; `server_activate` is
    /// not, as nothing is bound.
    ///
    /// # Errors
    ///
    /// Only what cannot be told to `handle_error`: the descriptor is no connected socket, or one of datagrams.
    fn serve_connection(self, stream: impl Into<OwnedFd>) -> io::Result<()>
    where
        Self::Transport: StreamTransport,
    {
        let socket = socket2::Socket::from(stream.into());
        let (client_address, server_address) =
            connected(&socket).map_err(|error| cannot("serve the connection", error))?;
        let acceptor = Acceptor::unbound(self, server_address, Self::OPTIONS)?;
        if let Some(accepted) = acceptor.accept(Stream::new(socket, client_address)) {
            accepted.process();
        }
        acceptor.close();
        Ok(())
    }
}

/// Both ends of a connection.
fn connected(socket: &socket2::Socket) -> io::Result<(Address, Address)> {
    let client_address = Address::from_system(&socket.peer_addr()?)?;
    let server_address = Address::from_system(&socket.local_addr()?)?;
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
