//! Receiving the header at the start of a connection, and nothing behind it.

use std::{io, time::Instant};

use socket2::Socket;

use super::{connection::Connection, turns::LoopWait};
use crate::{
    proxy_header::{
        ProxyHeader,
        decoder::{Decoder, Progress},
    },
    sys,
};

/// How many bytes are looked at in one piece: more than the headers of proxies have.
const PIECE: usize = 1024;

impl Connection {
    /// What precedes the handler has to come until the deadline. Until it has, the connection is idle, so that a drain ends it
    /// as soon as nothing is left to read.
    pub(crate) fn begin_preamble(&self, deadline: Option<Instant>) {
        self.set_deadline(deadline);
        self.activity.declare(false);
    }

    /// It has come, or will not come.
    pub(crate) fn end_preamble(&self) {
        self.activity.undeclare();
        self.set_deadline(None);
    }

    /// Waits for the header. `None`: the client has ended before it.
    pub(crate) fn wait_for_proxy_header(&self, decoder: &mut Decoder) -> io::Result<Option<Box<ProxyHeader>>> {
        loop {
            let mut header = None;
            let received = self.receive(|socket, limit, flags| {
                let (taken, progress) = receive_piece(socket, decoder, limit, flags)?;
                header = progress;
                Ok(taken)
            })?;
            if header.is_some() || received == 0 {
                return Ok(header);
            }
        }
    }

    /// Receives what has come of the header, on an event loop. `None`: the client has ended before it.
    /// [`io::ErrorKind::WouldBlock`] says that more has to come.
    pub(crate) fn receive_proxy_header(
        &self,
        decoder: &mut Decoder,
        wait: &mut LoopWait,
    ) -> io::Result<Option<Box<ProxyHeader>>> {
        loop {
            let mut header = None;
            let received = self.receive_in_turn(wait, |socket, limit| {
                let (taken, progress) = receive_piece(socket, decoder, limit, libc::MSG_DONTWAIT)?;
                header = progress;
                Ok(taken)
            })?;
            if header.is_some() || received == 0 {
                return Ok(header);
            }
        }
    }
}

/// Receives what has come of the header. The bytes behind it stay in the queue of the socket: the next read gets them,
/// by a `Reader`, a `Stream` or the descriptor.
fn receive_piece(
    socket: &Socket,
    decoder: &mut Decoder,
    limit: usize,
    flags: i32,
) -> io::Result<(usize, Option<Box<ProxyHeader>>)> {
    let mut piece = [0; PIECE];
    let seen = sys::receive_into(socket, &mut piece, limit, flags | libc::MSG_PEEK)?;
    if seen == 0 {
        return Ok((0, None));
    }
    let progress = decoder.feed(&piece[..seen]);
    let (mut rest, header) = match progress.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
        Progress::Incomplete => (seen, None),
        Progress::Complete { taken, header } => (taken, Some(header)),
    };
    let taken = rest;
    while rest > 0 {
        // They are there, and so are received at once.
        rest -= match sys::receive_into(socket, &mut piece, rest, libc::MSG_DONTWAIT)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            received => received,
        };
    }
    Ok((taken, header))
}
