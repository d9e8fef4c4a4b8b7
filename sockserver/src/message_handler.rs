//! The trait of a handler that is called once for each message.

use std::{error::Error, fmt};

use crate::{
    framing::{FrameError, FromFrame},
    handler::HandlerResult,
    io::closing::Closing,
    request::mailbox::Mailbox,
};

/// Handles the messages of one connection, one after the other. Between two messages it keeps nothing but its fields.
///
/// A value is made for each connection or packet, by [`FromRequest`](crate::FromRequest).
/// [`#[message_handler]`](macro@crate::message_handler) implements that, and says the framing. The methods are called in
/// this order: `setup`, `message` for each message, `closing` if the server ends the connection, `finish`. They may run
/// on different threads, but never two at once. An error or a panic ends this connection only, and goes to
/// [`Server::handle_error`](crate::Server::handle_error); of two errors, the first.
///
/// Between two messages the connection is [idle](crate::Stream#idle-and-busy). What the handler has written is sent
/// before the runtime waits for the next message. Python has no such class.
///
/// ```
/// use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};
/// use std::{io::{BufRead, BufReader, Write}, net::TcpStream};
///
/// #[message_handler(framing = "line")]
/// #[server(transport = "tcp", concurrency = "threading")]
/// struct Upper {
///     wfile: Writer,
/// }
///
/// impl MessageHandler for Upper {
///     type Message = String;
///
///     fn message(&mut self, line: String) -> HandlerResult {
///         Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = UpperServer.bind("127.0.0.1:0")?.spawn()?;
/// let mut client = TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
/// client.write_all(b"hello\n")?;
/// let mut answer = String::new();
/// BufReader::new(&client).read_line(&mut answer)?;
/// assert_eq!(answer, "HELLO\n");
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle messages",
    label = "a struct with `#[message_handler]` must implement `MessageHandler`",
    note = "write `impl MessageHandler for {Self} {{ type Message = String; fn message(&mut self, message: String) -> \
            HandlerResult {{ … }} }}`"
)]
pub trait MessageHandler: Send + 'static {
    /// The type of a message: one that implements [`FromFrame`]. With `str` or `[u8]`, `message` gets a `&str` or `&[u8]`,
    /// without a copy.
    type Message: FromFrame + ?Sized + 'static;

    /// Called first. If it fails, no other method is called.
    fn setup(&mut self) -> HandlerResult {
        Ok(())
    }

    /// Handles one message.
    fn message(&mut self, message: <Self::Message as FromFrame>::Message<'_>) -> HandlerResult;

    /// Called in place of `message` for a message that is [too long](FrameError::TooLong) or
    /// [malformed](FrameError::Malformed), and for bytes that [do not follow the framing](FrameError::Broken). After
    /// those the connection ends, since no message can be read any more; what `malformed` has written is sent first.
    /// By default it returns the error, which ends the connection in each case. It is not called for a message that the
    /// client has not finished: it has [hung up](crate::HandlerError::is_disconnect).
    ///
    /// ```
    /// # use sockserver::{HandlerResult, MessageHandler, Writer, message_handler};
    /// # use std::io::Write;
    /// use sockserver::framing::FrameError;
    /// # #[message_handler(framing = "line")]
    /// # struct Calculator { wfile: Writer }
    /// impl MessageHandler for Calculator {
    /// #   type Message = String;
    /// #   fn message(&mut self, line: String) -> HandlerResult { Ok(()) }
    ///     // …
    ///     fn malformed(&mut self, error: FrameError) -> HandlerResult {
    ///         Ok(writeln!(self.wfile, "error: {error}")?)
    ///     }
    /// }
    /// ```
    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        Err(error.into())
    }

    /// Called when the server ends the connection, to say goodbye, like
    /// [`RequestHandler::closing`](crate::RequestHandler::closing).
    fn closing(&mut self, _why: Closing) -> HandlerResult {
        Ok(())
    }

    /// Called last if `setup` succeeded, also after an error or a panic in `message`. Then what was written is sent.
    fn finish(&mut self) -> HandlerResult {
        Ok(())
    }
}

/// Ends the connection when [`message`](MessageHandler::message), [`malformed`](MessageHandler::malformed) or
/// [`mail`](MailHandler::mail) returns it as its error. `finish` is called, and what was written is sent. Messages that have
/// come already are not handled. It is no failure, and not reported.
///
/// A [`RequestHandler`](crate::RequestHandler) returns from `handle` instead.
///
/// ```
/// # use sockserver::{HandlerResult, MessageHandler, Writer, message_handler};
/// # use std::io::Write;
/// use sockserver::HangUp;
/// # #[message_handler(framing = "line")]
/// # struct Session { wfile: Writer }
/// impl MessageHandler for Session {
///     type Message = str;
///
///     fn message(&mut self, line: &str) -> HandlerResult {
///         if line == "QUIT" {
///             writeln!(self.wfile, "goodbye")?;
///             return Err(HangUp.into());
///         }
///         Ok(writeln!(self.wfile, "unknown command: {line}")?)
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handler has ended the connection")
    }
}

impl Error for HangUp {}

/// Begins TLS on a connection that is in plain text, as STARTTLS does, when [`message`](MessageHandler::message) or
/// [`mail`](MailHandler::mail) returns it as its error. What was written is sent in plain text, then client and server shake
/// hands, and the next message is the first that is encrypted. The server needs a certificate, and `tls(start = "handler")`.
///
/// What the handler has learned from the client before was not protected, and should be forgotten.
///
/// It is no failure, unless the handshake fails, or the client has sent bytes behind its request for TLS, which an
/// attacker between client and server can have added. Then the connection ends with that error. The conditions are those of
/// [`Reader::start_tls`](crate::Reader::start_tls), which a [`RequestHandler`](crate::RequestHandler) calls instead.
///
/// ```
/// # use sockserver::{HandlerResult, MessageHandler, Writer, message_handler};
/// # use std::io::Write;
/// use sockserver::StartTls;
/// #[message_handler(framing = "line")]
/// # #[server(transport = "tcp", concurrency = "event_loop", tls(certificate = "c.pem", key = "k.pem", start = "handler"))]
/// struct Session {
///     wfile: Writer,
///     #[default]
///     sender: Option<String>,
/// }
///
/// impl MessageHandler for Session {
///     type Message = str;
///
///     fn message(&mut self, line: &str) -> HandlerResult {
///         if line == "STARTTLS" {
///             writeln!(self.wfile, "220 go ahead")?;
///             self.sender = None;
///             return Err(StartTls.into());
///         }
///         self.sender = line.strip_prefix("MAIL FROM:").map(str::to_owned);
///         Ok(writeln!(self.wfile, "250 OK")?)
///     }
/// }
/// ```
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StartTls;

#[cfg(feature = "tls")]
impl fmt::Display for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handler begins TLS, which it can after a message or a mail only")
    }
}

#[cfg(feature = "tls")]
impl Error for StartTls {}

/// A message handler with a [`Mailbox`], which is called once a mail as well.
///
/// The struct has the mailbox as a field, and `#[message_handler]` finds it by its type. Its `sender()` is what others are given.
///
/// ```
/// use sockserver::{HandlerResult, MailHandler, Mailbox, MessageHandler, Sender, Server, Writer, message_handler};
/// use std::{io::Write, sync::{Arc, Mutex}};
///
/// #[derive(Default, Server)]
/// #[server(transport = "tcp", concurrency = "threading", handler = Listener)]
/// struct Radio {
///     listeners: Mutex<Vec<Sender<String>>>,
/// }
///
/// #[message_handler(framing = "line")]
/// struct Listener {
///     wfile: Writer,
///     mailbox: Mailbox<String>,
///     radio: Arc<Radio>,
/// }
///
/// impl MessageHandler for Listener {
///     type Message = String;
///
///     fn setup(&mut self) -> HandlerResult {
///         self.radio.listeners.lock().unwrap().push(self.mailbox.sender());
///         Ok(())
///     }
///
///     fn message(&mut self, line: String) -> HandlerResult {
///         let mut listeners = self.radio.listeners.lock().unwrap();
///         listeners.retain(|listener| listener.try_send(line.clone()).is_ok() || !listener.is_closed());
///         Ok(())
///     }
/// }
///
/// impl MailHandler for Listener {
///     type Mail = String;
///
///     fn mail(&mut self, line: String) -> HandlerResult {
///         Ok(writeln!(self.wfile, "{line}")?)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle mail",
    label = "a message handler with a `Mailbox` must implement `MailHandler`",
    note = "write `impl MailHandler for {Self} {{ type Mail = …; fn mail(&mut self, mail: …) -> HandlerResult {{ … }} }}`"
)]
pub trait MailHandler: MessageHandler + HasMailbox<Mailbox<<Self as MailHandler>::Mail>> {
    /// What its mailbox holds.
    type Mail: Send + 'static;

    /// Handles one mail.
    fn mail(&mut self, mail: Self::Mail) -> HandlerResult;
}

/// A message handler with a mailbox. `#[message_handler]` implements it for a handler with a field of type
/// [`Mailbox`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no field of type `{M}`",
    label = "a handler of mail has such a mailbox",
    note = "`#[message_handler]` finds the field by the name of its type, `Mailbox<…>`"
)]
pub trait HasMailbox<M> {
    /// The mailbox that the runtime takes mail from.
    fn mailbox(&mut self) -> &mut M;
}
