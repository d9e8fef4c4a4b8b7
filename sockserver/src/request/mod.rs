//! What a handler is made from: a connection or a packet, and what reads and writes it.

use std::{io, sync::Arc, time::Duration};

use crate::{
    address::Address,
    io::{
        bell::Bell,
        connection::{Connection, End},
        state::{ConnectionId, ConnectionState, Endpoint},
    },
};

pub(crate) mod datagram;
pub(crate) mod files;
pub(crate) mod reader;
pub(crate) mod stream;
pub(crate) mod writer;

use datagram::Datagram;
use files::Files;
use reader::Reader;
use stream::Stream;
use writer::Writer;

/// What a handler is made from: a [`Stream`] or a [`Datagram`]. It cannot be implemented outside of this crate.
pub trait AnyRequest: Clone + Send + Sync + sealed::Sealed + 'static {
    /// Where the request comes from.
    fn client_address(&self) -> &Address;

    /// The number of this request, which no other request of this process has.
    fn id(&self) -> ConnectionId;
}

mod sealed {
    #[expect(unnameable_types, reason = "a user who could name it could implement `AnyRequest`")]
    pub trait Sealed {
        const IS_STREAM: bool;

        fn kind(&self) -> crate::request::Kind<'_>;
    }
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug)]
#[expect(unnameable_types, reason = "the sealed trait returns it")]
pub enum Kind<'a> {
    Stream(&'a Stream),
    Datagram(&'a Datagram),
}

/// A trait of its own, so that nothing but the user's own handles can be reached from outside.
pub(crate) fn kind<R: AnyRequest>(request: &R) -> Kind<'_> {
    sealed::Sealed::kind(request)
}

/// Its client can do something while the request is under way, and fail to.
pub(crate) fn is_stream<R: AnyRequest>() -> bool {
    R::IS_STREAM
}

impl AnyRequest for Stream {
    fn client_address(&self) -> &Address {
        &self.state().client_address
    }

    fn id(&self) -> ConnectionId {
        Stream::id(self)
    }
}

impl sealed::Sealed for Stream {
    const IS_STREAM: bool = true;

    fn kind(&self) -> Kind<'_> {
        Kind::Stream(self)
    }
}

impl AnyRequest for Datagram {
    fn client_address(&self) -> &Address {
        &self.state().client_address
    }

    fn id(&self) -> ConnectionId {
        Datagram::id(self)
    }
}

impl sealed::Sealed for Datagram {
    const IS_STREAM: bool = false;

    fn kind(&self) -> Kind<'_> {
        Kind::Datagram(self)
    }
}

impl<'a> Kind<'a> {
    pub(crate) fn state(self) -> &'a ConnectionState {
        match self {
            Kind::Stream(stream) => stream.state(),
            Kind::Datagram(datagram) => datagram.state(),
        }
    }

    /// What the server can end.
    pub(crate) fn endpoint(self) -> Arc<dyn Endpoint> {
        match self {
            Kind::Stream(stream) => stream.connection().clone(),
            Kind::Datagram(datagram) => datagram.endpoint(),
        }
    }

    /// The connection, whose socket is the request's own and not the listener's.
    pub(crate) fn connection(self) -> Option<&'a Arc<Connection>> {
        match self {
            Kind::Stream(stream) => Some(stream.connection()),
            Kind::Datagram(_) => None,
        }
    }

    pub(crate) fn reader(self, files: &Files) -> io::Result<Reader> {
        match self {
            Kind::Stream(stream) => Reader::of_stream(stream, files),
            Kind::Datagram(datagram) => Ok(Reader::of_datagram(datagram, files)),
        }
    }

    pub(crate) fn writer(self, files: &Files) -> Writer {
        match self {
            Kind::Stream(stream) => Writer::of_stream(stream, files),
            Kind::Datagram(datagram) => Writer::of_datagram(datagram),
        }
    }

    pub(crate) fn set_timeout(self, timeout: Duration) -> io::Result<()> {
        match self {
            Kind::Stream(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))
            }
            Kind::Datagram(datagram) => {
                datagram.set_timeout(timeout);
                Ok(())
            }
        }
    }

    /// What wakes the handler that waits for the client, and how long the connection lasts at most.
    pub(crate) fn attach(self, bell: &Arc<Bell>, idle: Option<Duration>, lifetime: Option<Duration>) {
        if let Some(connection) = self.connection() {
            connection.attach(bell, idle, lifetime);
        }
    }

    /// Sends what was written.
    pub(crate) fn flush(self) -> io::Result<()> {
        match self {
            Kind::Stream(stream) => stream.connection().flush(),
            Kind::Datagram(datagram) => datagram.flush(),
        }
    }

    /// Python's `shutdown_request`, after which the handle is dropped.
    pub(crate) fn end(self) -> End {
        match self {
            Kind::Stream(stream) => stream.end(),
            Kind::Datagram(_) => End::Complete,
        }
    }
}
