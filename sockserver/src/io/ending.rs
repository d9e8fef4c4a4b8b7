//! How the server ends its side of a connection.

use std::{io, mem::MaybeUninit, net::Shutdown};

use super::connection::Connection;
use crate::{
    address::Address,
    primitives::atomic::Ordering::SeqCst,
    sys::{self, Input},
};

/// How the server ends its side of a connection.
pub(crate) enum End {
    /// What was sent arrives when the socket is closed.
    Complete,
    /// Closing the socket now could cost the client what it was sent.
    Lingering,
}

impl Connection {
    /// Ends the server's side: Python's `shutdown_request`. `closes`: the socket is closed next, as no other handle is
    /// left. Closing it is then the end of file, and no further system call is made where nothing can be lost.
    ///
    /// What arrives at a closed socket, or was not read there, makes the kernel reset the connection, and with that the
    /// client loses what it has not received yet (RFC 1122, 4.2.2.13), or does not look at it.
    pub(crate) fn end(&self, closes: bool) -> End {
        // A copy of the descriptor keeps the connection open, and may be read.
        let closes = closes && !self.waits.is_lent.load(SeqCst);
        let input = if self.has_client_ended() { Input::EndOfFile } else { sys::peek(&self.socket) };
        // A client that has sent something may go on, as one that is in the middle of a large request. Where the server ends
        // the connection, it was idle.
        let is_talking = self.state.bytes_in() > 0 && self.state.closing().is_none();
        let lingers = is_talking && input != Input::EndOfFile && self.has_sent() || self.can_lose_output(input);
        if !closes || input == Input::Bytes || lingers {
            // It fails on a connection that the client has reset, which is an end as well.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if lingers {
            return End::Lingering;
        }
        if closes && input == Input::Nothing && matches!(self.state.client_address, Address::Unix(_)) {
            // What a Unix socket has not read when it is closed is an error for its client, behind what it was sent. From
            // here on nothing comes, and what has come meanwhile is thrown away.
            let _ = self.socket.shutdown(Shutdown::Both);
            let _ = self.socket.recv_with_flags(&mut [MaybeUninit::uninit(); 1024], libc::MSG_DONTWAIT);
        }
        End::Complete
    }

    /// Closing the socket now would cost the client what it was sent, or could.
    pub(crate) fn has_to_linger(&self) -> bool {
        self.can_lose_output(sys::peek(&self.socket))
    }

    fn can_lose_output(&self, input: Input) -> bool {
        match input {
            Input::Bytes => self.has_sent(),
            Input::Nothing => self.has_sent() && self.has_unsent(),
            Input::EndOfFile => false,
        }
    }

    /// The client was sent something, and the server has not cut the connection.
    fn has_sent(&self) -> bool {
        self.state.bytes_out() > 0 && self.state.shut_for().is_none()
    }

    /// What is on its way reaches the client before a reset does, as after a later byte of the client. What was sent on a
    /// Unix socket is with the client already.
    fn has_unsent(&self) -> bool {
        matches!(self.state.client_address, Address::Inet(_)) && sys::bytes_unsent(&self.socket) > 0
    }

    fn has_client_ended(&self) -> bool {
        let failures = self.state.failures();
        [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset].into_iter().any(|kind| failures.contain(kind))
    }
}
