//! The PROXY header, as far as it has come.

use std::{io, time::Instant};

use super::failure::Failure;
use crate::{
    event::TurnedAway,
    io::{connection::Connection, turns::LoopWait},
    options::ProxyVersions,
    proxy_header::{ProxyHeader, decoder::Decoder},
};

pub(crate) struct Header {
    decoder: Decoder,
}

impl Header {
    pub(super) fn begin(connection: &Connection, versions: ProxyVersions, deadline: Option<Instant>) -> Header {
        connection.begin_preamble(deadline);
        Header { decoder: Decoder::new(versions) }
    }

    pub(super) fn wait(&mut self, connection: &Connection) -> Result<(), Failure> {
        let received = connection.wait_for_proxy_header(&mut self.decoder);
        self.end(connection, received)
    }

    /// `None`: more has to come.
    pub(super) fn receive(&mut self, connection: &Connection, wait: &mut LoopWait) -> Option<Result<(), Failure>> {
        let received = connection.receive_proxy_header(&mut self.decoder, wait);
        let has_to_wait = received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        (!has_to_wait).then(|| self.end(connection, received))
    }

    fn end(&self, connection: &Connection, received: io::Result<Option<Box<ProxyHeader>>>) -> Result<(), Failure> {
        connection.end_preamble();
        match received {
            Ok(Some(header)) => {
                connection.state.set_proxy_header(header);
                Ok(())
            }
            Ok(None) => Err(self.hung_up()),
            Err(error) => Err(self.fail(error)),
        }
    }

    pub(super) fn fail(&self, error: io::Error) -> Failure {
        match Failure::of_server(&error) {
            Some(failure) => failure,
            None if error.kind() == io::ErrorKind::TimedOut => self.late(),
            None if error.kind() == io::ErrorKind::InvalidData => Failure::of(TurnedAway::Preamble, error),
            // The peer has reset the connection.
            None => self.hung_up(),
        }
    }

    /// The peer has ended the connection. That is no fault if it has sent nothing: load balancers see in this way whether
    /// the server is there.
    fn hung_up(&self) -> Failure {
        if self.decoder.is_untouched() {
            return Failure::silent(TurnedAway::Preamble);
        }
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection has ended within its PROXY header");
        Failure::of(TurnedAway::Preamble, error)
    }

    fn late(&self) -> Failure {
        let error = match self.decoder.is_untouched() {
            true => {
                "no PROXY header came in time (`timeouts(handshake)`): have the proxy send one (`send-proxy-v2` in HAProxy, \
                 `proxy_protocol on` in nginx)"
            }
            false => "the PROXY header was not complete in time (`timeouts(handshake)`)",
        };
        Failure::of(TurnedAway::Preamble, io::Error::new(io::ErrorKind::TimedOut, error))
    }
}
