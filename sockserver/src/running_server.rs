//! A server that runs on a thread of its own.

use std::{io, ops::Deref};

use crate::{
    connections::drain::DrainReport, handle::ServerHandle, primitives::thread::JoinHandle, unwind::unwind_safe,
};

/// A server on a thread of its own: what [`SocketServer::spawn`](crate::SocketServer::spawn) returns.
///
/// It dereferences to its [`ServerHandle`]. Dropping it stops the server and waits for its end, as a test needs it:
///
/// ```
/// # use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
/// use std::{io::{Read, Write}, net::TcpStream};
///
/// #[request_handler]
/// #[server(transport = "tcp", concurrency = "threading")]
/// struct Hello {
///     wfile: Writer,
/// }
///
/// impl RequestHandler for Hello {
///     fn handle(&mut self) -> HandlerResult {
///         Ok(write!(self.wfile, "hello")?)
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = HelloServer.bind("127.0.0.1:0")?.spawn()?;
/// let mut client = TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
/// let drained = server.stop()?;
/// assert_eq!(drained.leaked, 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the server"]
pub struct RunningServer {
    handle: ServerHandle,
    /// Taken once it is joined.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl RunningServer {
    pub(crate) fn new(handle: ServerHandle, thread: JoinHandle<io::Result<()>>) -> RunningServer {
        RunningServer { handle, thread: Some(thread) }
    }

    /// The handle that steers the server. Dropping it does not stop the server.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Stops the server and waits until it has ended.
    ///
    /// # Errors
    ///
    /// What [`serve_forever`](crate::SocketServer::serve_forever) failed with, unless a handler was given up;
    /// [`io::ErrorKind::Deadlock`] in one of the server's own handlers: the server stops, but the handler cannot wait for
    /// it.
    ///
    /// # Panics
    ///
    /// When [`Concurrency::serve`](crate::Concurrency::serve) of your own has panicked, with the same payload.
    pub fn stop(mut self) -> io::Result<DrainReport> {
        self.shutdown();
        let drained = self.wait()?;
        // A handler that was given up may run on the thread that would be joined.
        if drained.leaked == 0 {
            self.join()?;
        }
        Ok(drained)
    }

    fn join(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(served)) => served,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Deref for RunningServer {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shutdown();
            // It fails only in a handler of the server, which stops all the same.
            let _ = self.wait();
        }
    }
}

unwind_safe!(RunningServer);
