//! The client's socket, with the TLS session on it.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    time::Duration,
};

use socket2::Socket;

#[cfg(feature = "tls")]
use super::trust::Trust;

/// How long a test waits for what it expects.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What a client sends and receives by.
pub(super) struct Wire {
    socket: Socket,
    #[cfg(feature = "tls")]
    trust: Trust,
    /// `None`: it speaks in plain text.
    #[cfg(feature = "tls")]
    session: Option<Box<rustls::ClientConnection>>,
}

impl Wire {
    pub(super) fn new(socket: Socket, #[cfg(feature = "tls")] trust: Trust) -> io::Result<Wire> {
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire {
            socket,
            #[cfg(feature = "tls")]
            trust,
            #[cfg(feature = "tls")]
            session: None,
        })
    }

    /// What is sent and received from now on is encrypted. The handshake comes with the first of it.
    #[cfg(feature = "tls")]
    pub(super) fn encrypt(&mut self) -> io::Result<()> {
        self.session = Some(Box::new(self.trust.session()?));
        Ok(())
    }

    /// Shakes hands, if that is to be done.
    #[cfg(feature = "tls")]
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        while let Some(session) = self.session.as_mut().filter(|session| session.is_handshaking()) {
            session.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    /// How long the next read may wait.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }

    /// Ends the client's half.
    pub(super) fn end(&mut self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        {
            self.shake_hands()?;
            if let Some(session) = &mut self.session {
                session.send_close_notify();
                session.write_tls(&mut self.socket)?;
            }
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// The end of the connection will be a reset. It fails for a Unix socket.
    pub(super) fn reset_at_end(&self) -> io::Result<()> {
        self.socket.set_linger(Some(Duration::ZERO))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            let was_handshaking = session.is_handshaking();
            return match rustls::Stream::new(&mut **session, &mut self.socket).read(buffer) {
                // The server has turned the client away.
                Err(error) if was_handshaking && error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            };
        }
        self.socket.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            return rustls::Stream::new(&mut **session, &mut self.socket).write(bytes);
        }
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            return rustls::Stream::new(&mut **session, &mut self.socket).flush();
        }
        Ok(())
    }
}
