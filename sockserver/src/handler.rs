//! What handles one request.

use std::error::Error;

use crate::io::closing::Closing;

/// An error of any type, as `?` makes it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What the methods of a [`RequestHandler`] return. `?` makes its error of any other, `Ok(write!(…)?)` makes one of a
/// result of another error type, and `ok_or("…")?` and `"…".into()` make an error of a text:
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

/// Handles one request: Python's `BaseRequestHandler`, of which `StreamRequestHandler` and `DatagramRequestHandler`
/// are those with a [`Reader`](crate::Reader) and a [`Writer`](crate::Writer).
///
/// A value is made for each request, by [`FromRequest`](crate::FromRequest), which `#[request_handler]` implements. Its methods are called
/// in the order `setup`, `handle`, `finish`, with `closing` before `finish` where the server ends the connection. An
/// error or a panic ends this request only: it is given to [`Server::handle_error`](crate::Server::handle_error); of two, the first.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle requests",
    label = "the handler of a server must implement `RequestHandler`",
    note = "write `impl RequestHandler for {Self} {{ fn handle(&mut self) -> HandlerResult {{ … }} }}`"
)]
pub trait RequestHandler {
    /// Called first. After an error neither `handle` nor `finish` is called.
    fn setup(&mut self) -> HandlerResult {
        Ok(())
    }

    /// Does the work of the request.
    fn handle(&mut self) -> HandlerResult;

    /// Called when the server ends the connection, to say goodbye: after `handle` has returned the error that its read
    /// failed with then, which `?` does. All its waits for the client, and those of `finish`, end within a second.
    ///
    /// Such an end is no failure: it is not given to [`Server::handle_error`](crate::Server::handle_error), and counts by its reason.
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

    /// Called last, whenever `setup` succeeded: also after an error or a panic in `handle`. What was written is sent
    /// after it, without a `flush`.
    fn finish(&mut self) -> HandlerResult {
        Ok(())
    }
}
