//! How the server ends its side of a connection.

use std::{mem::MaybeUninit, net::Shutdown};

use super::connection::Connection;
use crate::{
    address::Address,
    primitives::atomic::Ordering::SeqCst,
    sys::{self, Input},
};

/// How the server ends its side of a connection.
pub(crate) enum End {
    /// Closing the socket cannot cost the client any sent bytes.
    Complete,
    /// Closing the socket now could cost the client sent bytes.
    Lingering,
}

impl Connection {
    /// Ends the server's side: Python's `shutdown_request`. `closes` says that the caller closes the socket next, as no
    /// other handle is left. If nothing can be lost, that close sends the end of file, and no further system call is
    /// made.
    ///
    /// Input that arrives at a closed socket, or was not read before the close, makes the kernel reset the connection.
    /// The client then loses bytes that it has not received yet (RFC 1122, 4.2.2.13), or does not read them.
    pub(crate) fn end(&self, closes: bool) -> End {
        #[cfg(feature = "tls")]
        self.end_session();
        // The user may have a copy of the descriptor, which keeps the connection open and can be read.
        let closes = closes && !self.waits.is_descriptor_lent.load(SeqCst);
        let input = if self.state.failures().has_client_ended() { Input::EndOfFile } else { sys::peek(&self.socket) };
        // A client that has sent something may be in the middle of a large request and send more. If the server has ended
        // the connection, the client was idle.
        let is_talking = self.state.bytes_in() > 0 && !self.state.is_told();
        let lingers = is_talking && input != Input::EndOfFile && self.has_sent() || self.can_lose_output(input);
        if !closes || input == Input::Bytes || lingers {
            // This fails on a connection that the client has reset, which has ended too.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if lingers {
            return End::Lingering;
        }
        if closes && input == Input::Nothing && matches!(self.state.peer_address, Address::Unix(_)) {
            // Input that is unread when a Unix socket closes makes the client's reads fail after the bytes it was sent.
            // The shutdown stops further input, and the receive discards what arrived meanwhile.
            let _ = self.socket.shutdown(Shutdown::Both);
            let _ = self.socket.recv_with_flags(&mut [MaybeUninit::uninit(); 1024], libc::MSG_DONTWAIT);
        }
        End::Complete
    }

    /// Whether closing the socket now could cost the client sent bytes.
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

    /// Whether the client was sent something, and the server has not cut the connection.
    fn has_sent(&self) -> bool {
        self.state.bytes_out() > 0 && !self.state.is_cut()
    }

    /// Whether the kernel still holds bytes that it has not sent. Bytes in flight reach the client before a reset does,
    /// and bytes sent on a Unix socket are in the client's queue already.
    fn has_unsent(&self) -> bool {
        matches!(self.state.peer_address, Address::Inet(_)) && sys::bytes_unsent(&self.socket) > 0
    }
}
