//! The TLS handshake, as far as it has come.

use std::{io, time::Instant};

use rustls::OtherError;

use super::failure::Failure;
use crate::{
    event::TurnedAway,
    io::{connection::Connection, turns::LoopWait},
    tls::session::Panicked,
};

pub(crate) struct Handshake {
    /// How many bytes had come before it.
    before: u64,
}

impl Handshake {
    pub(super) fn begin(connection: &Connection, deadline: Option<Instant>) -> Result<Handshake, Failure> {
        let handshake = Handshake { before: connection.state.bytes_in() };
        match connection.begin_handshake(deadline) {
            Ok(()) => Ok(handshake),
            Err(error) => Err(handshake.fail(connection, error)),
        }
    }

    pub(super) fn wait(&self, connection: &Connection) -> Result<(), Failure> {
        let done = connection.wait_for_handshake();
        self.end(connection, done)
    }

    /// `None`: more has to come.
    pub(super) fn receive(&self, connection: &Connection, wait: &mut LoopWait) -> Option<Result<(), Failure>> {
        let done = connection.handshake_in_turn(wait);
        let has_to_wait = done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        (!has_to_wait).then(|| self.end(connection, done))
    }

    fn end(&self, connection: &Connection, done: io::Result<()>) -> Result<(), Failure> {
        connection.end_handshake();
        done.map_err(|error| self.fail(connection, error))
    }

    pub(super) fn fail(&self, connection: &Connection, error: io::Error) -> Failure {
        if let Some(failure) = Failure::of_server(&error) {
            return failure;
        }
        // Scanners of ports and health checks send nothing.
        if connection.state.bytes_in() == self.before {
            return Failure::silent(TurnedAway::Handshake);
        }
        if let Some(message) = panic_of(&error) {
            return Failure::panic(message);
        }
        let error = match error.kind() {
            io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "it was not complete in time (`timeouts(handshake)`)")
            }
            _ => error,
        };
        Failure::of(TurnedAway::Handshake, error)
    }
}

/// What the user's code has panicked with, within the handshake.
fn panic_of(error: &io::Error) -> Option<&str> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::Other(OtherError(other)) => other.downcast_ref().map(|Panicked(message)| message.as_str()),
        _ => None,
    }
}
