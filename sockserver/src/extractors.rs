//! The types of this crate that a handler's fields can have.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc};

use crate::{
    address::Address,
    framing::{Framing, FromFrame},
    handle::ServerHandle,
    io::state::ConnectionId,
    proxy_header::ProxyHeader,
    request::{
        self, AnyRequest, datagram::Datagram, frame_writer::FrameWriter, frames::Frames, mailbox::Mailbox,
        reader::Reader, stream::Stream, writer::Writer,
    },
    service::{BehindProxy, Context, FromRequest, Service},
    sys,
    transport::{DatagramTransport, InetTransport, StreamTransport, UnixTransport},
};

#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for Reader {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Reader> {
        request::kind(cx.request()).reader(&cx.files)
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for Writer {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Writer> {
        Ok(request::kind(cx.request()).writer(&cx.files))
    }
}

impl<S: Service, F: Framing + Default, M: FromFrame + ?Sized> FromRequest<S> for Frames<F, M> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Frames<F, M>> {
        let kind = request::kind(cx.request());
        Ok(Frames::new(kind.reader(&cx.files)?, kind.writer(&cx.files), cx.files.max_frame))
    }
}

impl<S: Service, F: Framing + Default> FromRequest<S> for FrameWriter<F> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<FrameWriter<F>> {
        Ok(FrameWriter::new(request::kind(cx.request()).writer(&cx.files)))
    }
}

impl<S: Service, T: Send + 'static> FromRequest<S> for Mailbox<T> {
    const NEEDS_SHARED_MEMORY: bool = true;

    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Mailbox<T>> {
        Ok(Mailbox::new(cx.files.mailbox))
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for Address {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Address> {
        Ok(cx.client_address().clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for ConnectionId {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<ConnectionId> {
        Ok(cx.request().id())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for ServerHandle {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<ServerHandle> {
        Ok(cx.handle().clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for Arc<S> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Arc<S>> {
        Ok(cx.server().clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service<Transport: StreamTransport>> FromRequest<S> for Stream {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Stream> {
        Ok(cx.request().clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service<Transport: DatagramTransport>> FromRequest<S> for Datagram {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Datagram> {
        Ok(cx.request().clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service<Transport: InetTransport>> FromRequest<S> for SocketAddr {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<SocketAddr> {
        match cx.client_address() {
            Address::Inet(address) => Ok(*address),
            Address::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "the client is at a Unix address")),
        }
    }
}

#[diagnostic::do_not_recommend]
impl<S: BehindProxy> FromRequest<S> for ProxyHeader {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<ProxyHeader> {
        Ok(request::kind(cx.request()).state().proxy_header().cloned().unwrap_or_default())
    }
}

/// `None`: the client is at a Unix address.
#[diagnostic::do_not_recommend]
impl<S: Service> FromRequest<S> for Option<SocketAddr> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Option<SocketAddr>> {
        Ok(match cx.client_address() {
            Address::Inet(address) => Some(*address),
            Address::Unix(_) => None,
        })
    }
}

/// `None`: the client is not at a Unix address.
#[diagnostic::do_not_recommend]
impl<S: Service<Transport: StreamTransport>> FromRequest<S> for Option<PeerCred> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Option<PeerCred>> {
        match &request::kind(cx.request()).state().peer_address {
            Address::Inet(_) => Ok(None),
            Address::Unix(_) => PeerCred::of(cx.request()).map(Some),
        }
    }
}

#[diagnostic::do_not_recommend]
impl<S: Service<Transport: UnixTransport>> FromRequest<S> for PeerCred {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<PeerCred> {
        PeerCred::of(cx.request())
    }
}

/// Who is at the other end of a Unix stream socket, as the kernel knows it from the time of the connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCred {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, on systems whose kernel reports it.
    pub pid: Option<i32>,
}

impl PeerCred {
    /// The credentials of a connection.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] for a connection that is not of a Unix socket.
    pub fn of(stream: &Stream) -> io::Result<PeerCred> {
        // Linux returns the user -1 for a socket of another family.
        if let Address::Inet(address) = &stream.state().peer_address {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("a TCP connection has no peer credentials: it is from {address}"),
            ));
        }
        let (uid, gid, pid) = sys::peer_credentials(stream.connection().socket().as_fd())?;
        Ok(PeerCred { uid, gid, pid })
    }
}

#[cfg(feature = "tls")]
mod tls {
    //! What the handshake says.

    use std::io;

    use crate::{
        request,
        service::{AsksForCertificates, Context, Encrypted, FromRequest, RequiresCertificates, Service},
        tls::{
            info::{Alpn, PeerCertificate, ServerName, TlsInfo},
            session::Session,
        },
    };

    fn of_session<S: Service, T>(cx: &Context<'_, S>, ask: impl FnOnce(&Session) -> Option<T>) -> io::Result<T> {
        let connection = request::kind(cx.request()).connection();
        let found = connection.and_then(|connection| connection.session(ask)).flatten();
        found.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the connection is not encrypted, or its client is not known")
        })
    }

    #[diagnostic::do_not_recommend]
    impl<S: Encrypted> FromRequest<S> for TlsInfo {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<TlsInfo> {
            of_session(cx, Session::info)
        }
    }

    #[diagnostic::do_not_recommend]
    impl<S: Encrypted> FromRequest<S> for Alpn {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<Alpn> {
            of_session(cx, |session| Some(session.alpn()))
        }
    }

    #[diagnostic::do_not_recommend]
    impl<S: Encrypted> FromRequest<S> for ServerName {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<ServerName> {
            of_session(cx, |session| Some(session.server_name()))
        }
    }

    #[diagnostic::do_not_recommend]
    impl<S: RequiresCertificates> FromRequest<S> for PeerCertificate {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<PeerCertificate> {
            of_session(cx, Session::peer_certificate)
        }
    }

    #[diagnostic::do_not_recommend]
    impl<S: AsksForCertificates> FromRequest<S> for Option<PeerCertificate> {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<Option<PeerCertificate>> {
            of_session(cx, |session| Some(session.peer_certificate()))
        }
    }
}
