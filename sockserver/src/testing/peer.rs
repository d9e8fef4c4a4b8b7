//! The client's end of a connection to a server without a port.

use std::{
    any::Any,
    error::Error,
    fmt::{self, Write as _},
    io::{self, Read, Write},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    difference::Difference,
    wire::{PATIENCE, Wire},
};
use crate::error::HandlerError;

/// How long a test that has failed waits for more to show.
const MORE: Duration = Duration::from_millis(100);

/// The client's end of a connection to a handler under test: what [`connect`](super::connect) returns.
///
/// Its methods panic where the handler does not do what is expected within 10 seconds, at the line of the test. Dropping
/// it hangs up.
///
/// As a [`Read`] it gives what [`expect`](Self::expect) has not taken, and the handler's end as the end of file.
pub struct Peer {
    wire: Wire,
    /// What has come and was not taken.
    received: Vec<u8>,
    handler: Handler,
    /// Ends the server if no other client and no test has it. Dropped last.
    _server: Arc<dyn Any + Send + Sync>,
}

/// The handler on the other side.
enum Handler {
    Running(Receiver<Result<(), HandlerError>>),
    Ended(Result<(), HandlerError>),
}

/// What has come last.
enum Arrival {
    Bytes,
    End,
    /// Nothing within the time.
    Silence,
    Broken(io::Error),
}

impl Peer {
    pub(super) fn new(
        wire: Wire,
        result: Receiver<Result<(), HandlerError>>,
        server: Arc<dyn Any + Send + Sync>,
    ) -> Peer {
        Peer { wire, received: Vec::new(), handler: Handler::Running(result), _server: server }
    }

    /// Sends these bytes.
    ///
    /// # Panics
    ///
    /// If the handler has ended, or takes nothing for 10 seconds.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if let Err(error) = self.wire.set_patience(PATIENCE).and_then(|()| self.wire.write_all(bytes)) {
            let sent = bytes[..bytes.len().min(100)].escape_ascii();
            panic!("the handler did not take \"{sent}\": {error}{}", self.why_it_has_ended());
        }
    }

    /// Waits for exactly these bytes. What comes behind them is left for the next call.
    ///
    /// # Panics
    ///
    /// If others come, the end, or nothing for 10 seconds.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let expected = bytes.as_ref();
        let what_came = loop {
            let length = self.received.len().min(expected.len());
            if self.received[..length] != expected[..length] {
                // The rest of it makes it easier to understand.
                while let Arrival::Bytes = self.receive(MORE) {}
                break String::new();
            }
            if length == expected.len() {
                self.received.drain(..length);
                return;
            }
            match self.receive(PATIENCE) {
                Arrival::Bytes => {}
                Arrival::End => break ", and then the end".to_owned(),
                Arrival::Silence => break format!(", and nothing for {PATIENCE:?}"),
                Arrival::Broken(error) => break format!(", and then: {error}"),
            }
        };
        let why = self.why_it_has_ended();
        let difference = Difference { expected, received: &self.received };
        panic!("the handler has sent something else{what_came}:\n{difference}{why}");
    }

    /// Waits for a line, and returns it without its end.
    ///
    /// # Panics
    ///
    /// If the end comes first, or nothing for 10 seconds, or if the line is not UTF-8.
    #[track_caller]
    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = String::from_utf8(line).expect("a line in UTF-8");
                return line.trim_end_matches(['\r', '\n']).to_owned();
            }
            let what_came = match self.receive(PATIENCE) {
                Arrival::Bytes => continue,
                Arrival::End => "the end".to_owned(),
                Arrival::Silence => format!("nothing for {PATIENCE:?}"),
                Arrival::Broken(error) => error.to_string(),
            };
            let why = self.why_it_has_ended();
            panic!("no line has come, but \"{}\" and {what_came}{why}", self.received.escape_ascii());
        }
    }

    /// Waits for the end of file, and for nothing before it.
    ///
    /// # Panics
    ///
    /// If something else comes, or nothing for 10 seconds.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let what_came = match self.receive(PATIENCE) {
            Arrival::End if self.received.is_empty() => return,
            Arrival::Silence if self.received.is_empty() => format!("nothing for {PATIENCE:?}"),
            Arrival::Broken(error) if self.received.is_empty() => error.to_string(),
            _ => {
                while let Arrival::Bytes = self.receive(MORE) {}
                format!("\"{}\"", self.received.escape_ascii())
            }
        };
        panic!("instead of the end came {what_came}{}", self.why_it_has_ended());
    }

    /// Begins TLS, as a client does that was told to go ahead: for a server with `tls(start = "handler")`.
    ///
    /// # Panics
    ///
    /// If the handler has sent more in plain text than the test has taken, or if the handshake fails.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub fn start_tls(&mut self) {
        let more = self.received.escape_ascii();
        assert!(self.received.is_empty(), "before TLS the handler has sent \"{more}\" as well");
        let begin = |wire: &mut Wire| {
            wire.encrypt()?;
            wire.set_patience(PATIENCE)?;
            wire.shake_hands()
        };
        if let Err(error) = begin(&mut self.wire) {
            panic!("the handshake has failed: {error}{}", self.why_it_has_ended());
        }
    }

    /// Ends the client's half of the connection: the handler reads the end of file, and can still answer.
    pub fn end(&mut self) {
        // It fails if the handler has ended the connection.
        let _ = self.wire.set_patience(PATIENCE).and_then(|()| self.wire.end());
    }

    /// Ends the connection by a reset, as a client that has crashed does. A Unix socket knows resets only where bytes are
    /// unread: there it hangs up.
    pub fn reset(self) {
        // It fails for a Unix socket.
        let _ = self.wire.reset_at_end();
    }

    /// Hangs up, waits until the handler has ended, and returns the error that `handle_error` would get. It is `Ok` also where
    /// the server has turned the client away.
    ///
    /// # Panics
    ///
    /// If the handler does not end within 10 seconds.
    #[track_caller]
    pub fn result(mut self) -> Result<(), HandlerError> {
        self.end();
        // The handler may be writing what the test has not read.
        while let Arrival::Bytes = self.receive(PATIENCE) {}
        match self.handler {
            Handler::Ended(result) => result,
            Handler::Running(result) => match result.recv_timeout(PATIENCE) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => panic!("the handler has not ended within {PATIENCE:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the thread of the handler has panicked"),
            },
        }
    }

    fn receive(&mut self, patience: Duration) -> Arrival {
        let mut buffer = [0; 4096];
        if let Err(error) = self.wire.set_patience(patience) {
            return Arrival::Broken(error);
        }
        match self.wire.read(&mut buffer) {
            Ok(0) => Arrival::End,
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Arrival::Bytes
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Arrival::Silence
            }
            Err(error) => Arrival::Broken(error),
        }
    }

    /// For the message of a test that fails.
    fn why_it_has_ended(&mut self) -> String {
        if let Handler::Running(result) = &self.handler {
            match result.recv_timeout(MORE) {
                Ok(result) => self.handler = Handler::Ended(result),
                Err(_) => return String::new(),
            }
        }
        match &self.handler {
            Handler::Ended(Err(error)) => format!("\nThe handler has failed: {}", chain(error)),
            Handler::Ended(Ok(())) => "\nThe handler has ended without an error.".to_owned(),
            Handler::Running(_) => String::new(),
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            match self.receive(PATIENCE) {
                Arrival::Bytes | Arrival::End => {}
                Arrival::Silence => return Err(io::ErrorKind::TimedOut.into()),
                Arrival::Broken(error) => return Err(error),
            }
        }
        let length = buffer.len().min(self.received.len());
        buffer[..length].copy_from_slice(&self.received[..length]);
        self.received.drain(..length);
        Ok(length)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("received", &self.received.escape_ascii().to_string()).finish_non_exhaustive()
    }
}

/// An error with its sources.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.for_each(|source| _ = write!(text, ": {source}"));
    text
}
