//! What a handler is made from: a connection or a packet, its reader and its writer.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    address::Address,
    io::{
        connection::Connection,
        ending::End,
        state::{ConnectionId, ConnectionState, Endpoint},
    },
};

pub(crate) mod datagram;
pub(crate) mod end_of_file;
pub(crate) mod files;
pub(crate) mod frame_reader;
pub(crate) mod frame_writer;
pub(crate) mod frames;
pub(crate) mod mailbox;
pub(crate) mod packet;
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

        fn kind(&self, token: Token) -> crate::request::Kind<'_>;
    }

    /// Only this crate can make one, so that a user, who has the trait with [`AnyRequest`](super::AnyRequest), cannot call
    /// its method.
    #[derive(Debug)]
    #[expect(unnameable_types, reason = "the sealed trait takes it")]
    pub struct Token(pub(crate) ());
}

/// A request by its kind.
#[derive(Clone, Copy, Debug)]
#[expect(unnameable_types, reason = "the sealed trait returns it")]
pub enum Kind<'a> {
    Stream(&'a Stream),
    Datagram(&'a Datagram),
}

pub(crate) fn kind<R: AnyRequest>(request: &R) -> Kind<'_> {
    sealed::Sealed::kind(request, sealed::Token(()))
}

/// Whether the request is a connection, on which the client can send during the request.
pub(crate) fn is_stream<R: AnyRequest>() -> bool {
    R::IS_STREAM
}

impl AnyRequest for Stream {
    fn client_address(&self) -> &Address {
        self.state().client_address()
    }

    fn id(&self) -> ConnectionId {
        Stream::id(self)
    }
}

impl sealed::Sealed for Stream {
    const IS_STREAM: bool = true;

    fn kind(&self, _: sealed::Token) -> Kind<'_> {
        Kind::Stream(self)
    }
}

impl AnyRequest for Datagram {
    fn client_address(&self) -> &Address {
        self.state().client_address()
    }

    fn id(&self) -> ConnectionId {
        Datagram::id(self)
    }
}

impl sealed::Sealed for Datagram {
    const IS_STREAM: bool = false;

    fn kind(&self, _: sealed::Token) -> Kind<'_> {
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

    /// The request as the server ends it.
    pub(crate) fn endpoint(self) -> Weak<dyn Endpoint> {
        match self {
            Kind::Stream(stream) => Arc::downgrade(stream.connection()) as Weak<dyn Endpoint>,
            Kind::Datagram(datagram) => datagram.endpoint(),
        }
    }

    /// The connection of a stream. `None` for a packet, which has the listener's socket.
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

    /// Sends what the handler has written.
    pub(crate) fn flush_at_end(self) -> io::Result<()> {
        match self {
            Kind::Stream(stream) => stream.connection().flush_at_end(),
            Kind::Datagram(datagram) => datagram.flush(),
        }
    }

    /// Python's `shutdown_request`. The caller drops the handle next.
    pub(crate) fn end(self) -> End {
        match self {
            Kind::Stream(stream) => stream.end(),
            Kind::Datagram(_) => End::Complete,
        }
    }
}
