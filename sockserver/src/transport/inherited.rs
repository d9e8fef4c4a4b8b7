//! Sockets that were bound before this process started.

use std::{io, os::fd::OwnedFd};

use super::{BindTo, Transport};
use crate::{
    address::Address,
    inheritance::{self, Missing},
    options::Options,
};

/// The sockets of this name that systemd, or a manager that speaks its protocol, has started this process with
/// (`LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID`: `sd_listen_fds(3)`).
///
/// [`bind`](crate::Server::bind) takes it in place of an address, with any transport. The name is that of
/// `FileDescriptorName=` in the socket unit. Without one, systemd takes the name of the unit: `web` stands for `web.socket`
/// too. If several sockets have the name, the server serves them all.
///
/// ```no_run
/// # use sockserver::{HandlerResult, RequestHandler, Writer, request_handler};
/// use sockserver::{Server, inherited};
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
/// // Port 80 of systemd, or 8080 where a developer starts the program.
/// HelloServer.bind(inherited("web").or("127.0.0.1:8080"))?.serve_forever()
/// # }
/// ```
///
/// Each socket can be taken once. The first call marks all of them close-on-exec, so that programs which this process
/// starts do not inherit them. The environment stays as it is. A stream socket that listens already keeps the length of its
/// queue.
///
/// # Errors
///
/// Binding fails with [`io::ErrorKind::NotFound`] if there is no such socket, and with [`io::ErrorKind::InvalidInput`] if it
/// is of another transport.
pub fn inherited(name: impl Into<String>) -> Inherited {
    Inherited { name: name.into() }
}

/// What [`inherited`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    name: String,
}

/// What [`Inherited::or`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritedOr<A> {
    inherited: Inherited,
    address: A,
}

impl Inherited {
    /// Binds to this address, or these, if no socket of the name was inherited.
    pub fn or<A>(self, address: A) -> InheritedOr<A> {
        InheritedOr { inherited: self, address }
    }

    fn not_found(&self, missing: &Missing) -> io::Error {
        let name = &self.name;
        let reason = match missing {
            Missing::Taken => format!("the inherited socket `{name}` was taken before"),
            Missing::Unknown(names) if names.is_empty() => format!(
                "no socket was inherited (LISTEN_FDS, LISTEN_PID): start the program by a socket unit of systemd that has \
                 `FileDescriptorName={name}`, or say what to bind to otherwise: `inherited(\"{name}\").or(\"127.0.0.1:9999\")`"
            ),
            Missing::Unknown(names) => {
                let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                format!("no inherited socket is named `{name}`; their names are {names}")
            }
        };
        io::Error::new(io::ErrorKind::NotFound, reason)
    }

    fn adopt<T: Transport>(sockets: Vec<(String, OwnedFd)>, options: &Options) -> io::Result<Vec<T::Listener>> {
        let adopt = |(name, socket)| {
            T::from_listener(socket, options).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot serve on the inherited socket `{name}`: {error}"))
            })
        };
        sockets.into_iter().map(adopt).collect()
    }
}

impl<T: Transport> BindTo<T> for Inherited {
    fn server_bind(self, options: &Options, _beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        let sockets = inheritance::take(&self.name).map_err(|missing| self.not_found(&missing))?;
        Inherited::adopt::<T>(sockets, options)
    }
}

impl<T: Transport, A: BindTo<T>> BindTo<T> for InheritedOr<A> {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        match inheritance::take(&self.inherited.name) {
            Ok(sockets) => Inherited::adopt::<T>(sockets, options),
            Err(Missing::Unknown(_)) => self.address.server_bind(options, beside),
            Err(missing) => Err(self.inherited.not_found(&missing)),
        }
    }
}
