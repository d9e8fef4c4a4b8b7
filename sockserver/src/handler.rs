//! The trait of request handlers.

use std::error::Error;

use crate::io::closing::Closing;

/// An error of any type, as `?` makes it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What the methods of a [`RequestHandler`] return. `?` converts any error, `Ok(write!(…)?)` converts a result with
/// another error type, and `ok_or("…")?` and `"…".into()` make an error from a text:
///
/// ```
/// use sockserver::{HandlerResult, Reader, RequestHandler, Writer, request_handler};
/// use std::io::Write;
///
/// #[request_handler]
/// struct Square {
///     rfile: Reader,
///     wfile: Writer,
/// }
///
/// impl RequestHandler for Square {
///     fn handle(&mut self) -> HandlerResult {
///         let line = self.rfile.next_line()?.ok_or("nothing to square")?;
///         let number: i64 = line.parse()?;
///         if number > 1_000_000 {
///             return Err(format!("{number} is too much").into());
///         }
///         Ok(writeln!(self.wfile, "{}", number * number)?)
///     }
/// }
/// ```
pub type HandlerResult = Result<(), BoxError>;

/// Handles one request: Python's `BaseRequestHandler`. With a [`Reader`](crate::Reader) and a [`Writer`](crate::Writer) it
/// is Python's `StreamRequestHandler` and `DatagramRequestHandler`.
///
/// The server makes a value for each request by [`FromRequest`](crate::FromRequest), which `#[request_handler]`
/// implements, and calls `setup`, `handle` and `finish` in this order. If the server ends the connection, it calls
/// `closing` before `finish`. An error or a panic ends this request only. The first one of a request goes to
/// [`Server::handle_error`](crate::Server::handle_error).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle requests",
    label = "the handler of a server must implement `RequestHandler`, or `MessageHandler` with `#[message_handler]`",
    note = "write `impl RequestHandler for {Self} {{ fn handle(&mut self) -> HandlerResult {{ … }} }}`, or \
            `#[message_handler(framing = \"line\")]` above the struct and `impl MessageHandler for {Self} {{ … }}`"
)]
pub trait RequestHandler {
    /// Called first. After an error neither `handle` nor `finish` is called.
    fn setup(&mut self) -> HandlerResult {
        Ok(())
    }

    /// Does the work of the request.
    fn handle(&mut self) -> HandlerResult;

    /// Called to say goodbye when the server ends the connection. The handler's read fails then, with a [`Closing`] inside, and
    /// `handle` must return that error or one that is made of it, which `?` does. The waits for the client in here and in
    /// `finish` end within a second.
    ///
    /// Such an end is no failure: it does not go to [`Server::handle_error`](crate::Server::handle_error), and counts by its
    /// reason.
    ///
    /// ```
    /// use sockserver::{Closing, HandlerResult, Reader, RequestHandler, Writer, request_handler};
    /// use std::io::Write;
    ///
    /// #[request_handler]
    /// struct Mail {
    ///     rfile: Reader,
    ///     wfile: Writer,
    /// }
    ///
    /// impl RequestHandler for Mail {
    ///     fn handle(&mut self) -> HandlerResult {
    ///         while let Some(_command) = self.rfile.next_line()? {
    ///             write!(self.wfile, "250 OK\r\n")?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn closing(&mut self, why: Closing) -> HandlerResult {
    ///         Ok(write!(self.wfile, "421 {why}\r\n")?)
    ///     }
    /// }
    /// ```
    fn closing(&mut self, _why: Closing) -> HandlerResult {
        Ok(())
    }

    /// Called last if `setup` succeeded, also after an error or a panic in `handle`. The server sends what was written after
    /// it, without a `flush`.
    fn finish(&mut self) -> HandlerResult {
        Ok(())
    }
}
