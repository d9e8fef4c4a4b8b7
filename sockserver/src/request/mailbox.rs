//! Mail from other handlers and threads, for a handler that waits for its client.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::{
    io::{host::Host, waiting::Patience, waker::Waker},
    primitives::{Condvar, Mutex},
};

/// A bounded queue of mail for one handler, from other handlers and threads. The handler waits for its mail and for its
/// client at the same time: with [`Reader::next_line_or`](crate::Reader::next_line_or) or
/// [`Frames::next_or`](crate::Frames::next_or), or as a [`MailHandler`](crate::MailHandler).
///
/// The handler gives its [`sender`](Self::sender) to the others. The mail of one sender comes in its order. Mail that is
/// unread when the handler ends is dropped, and sending fails from then on. `mailbox = …` of the handler says how many
/// mails the mailbox holds: 128 by default.
///
/// From the first wait on, a mailbox has two descriptors. A server with `concurrency = "forking"` refuses it when it is
/// bound, because its children do not share memory.
///
/// ```
/// use sockserver::{Arrival, HandlerResult, Mailbox, Reader, RequestHandler, Sender, Server, Writer, request_handler};
/// use std::{io::{BufRead, BufReader, Write}, net::TcpStream, sync::{Arc, Mutex}};
///
/// /// Sends each line to all that are connected.
/// #[derive(Default, Server)]
/// #[server(transport = "tcp", concurrency = "threading", handler = Listener)]
/// struct Radio {
///     listeners: Mutex<Vec<Sender<String>>>,
/// }
///
/// #[request_handler]
/// struct Listener {
///     rfile: Reader,
///     wfile: Writer,
///     mailbox: Mailbox<String>,
///     radio: Arc<Radio>,
/// }
///
/// impl RequestHandler for Listener {
///     fn handle(&mut self) -> HandlerResult {
///         self.radio.listeners.lock().unwrap().push(self.mailbox.sender());
///         while let Some(arrival) = self.rfile.next_line_or(&mut self.mailbox)? {
///             match arrival {
///                 // A listener that does not read loses what its mailbox cannot hold, and harms no other.
///                 Arrival::Message(line) => self.radio.listeners.lock().unwrap().retain(|listener| {
///                     listener.try_send(line.clone()).is_ok() || !listener.is_closed()
///                 }),
///                 Arrival::Mail(line) => writeln!(self.wfile, "{line}")?,
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = Radio::default().bind("127.0.0.1:0")?.spawn()?;
/// let mut client = TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
/// client.write_all(b"hello\n")?;
/// let mut line = String::new();
/// BufReader::new(&client).read_line(&mut line)?;
/// assert_eq!(line, "hello\n");
/// # Ok(()) }
/// ```
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
    /// How many mails were taken since the last check for the client.
    in_a_row: usize,
}

/// The sending end of a [`Mailbox`]. It is cheap to clone, and can outlive the mailbox.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// A message of the client or mail, whichever came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<M, T> {
    /// From the client.
    Message(M),
    /// From a [`Sender`] of the mailbox.
    Mail(T),
}

/// Why mail was not sent. It contains the mail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// The mailbox is full: its handler is busy, or waits for a client that does not read.
    Full(T),
    /// The mailbox is gone, with its handler.
    Closed(T),
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    has_room: Condvar,
    /// Made when the handler first waits.
    wakeup: OnceLock<Wakeup>,
}

/// How a sender wakes the handler.
enum Wakeup {
    /// Its thread waits.
    Thread(Waker),
    /// An event loop calls it.
    Loop(Arc<Host>),
}

struct Queue<T> {
    mails: VecDeque<T>,
    capacity: usize,
    is_closed: bool,
    /// The handler has seen no mail and is about to wait: the next sender must wake it.
    is_awaited: bool,
}

/// How long a sender waits for room.
#[derive(Clone, Copy)]
enum Wait {
    Never,
    Until(Instant),
    Forever,
}

/// After this many mails in a row a handler checks for its client and for a stop, however much mail is left.
const MAILS_IN_A_ROW: usize = 16;

impl<T> Mailbox<T> {
    pub(crate) fn new(capacity: usize) -> Mailbox<T> {
        let queue = Queue { mails: VecDeque::new(), capacity, is_closed: false, is_awaited: false };
        let shared = Shared { queue: Mutex::new(queue), has_room: Condvar::new(), wakeup: OnceLock::new() };
        Mailbox { shared: Arc::new(shared), in_a_row: 0 }
    }

    /// A new sending end.
    pub fn sender(&self) -> Sender<T> {
        Sender { shared: self.shared.clone() }
    }

    /// The next mail, if there is any, without waiting.
    pub fn try_next(&mut self) -> Option<T> {
        let mut queue = self.shared.queue.lock();
        let mail = queue.mails.pop_front();
        drop(queue);
        if mail.is_some() {
            self.shared.has_room.notify_one();
        }
        mail
    }

    /// The next mail, if there is any. `None` also when it is the client's turn.
    pub(crate) fn next_in_turn(&mut self) -> Option<T> {
        let mail = if self.in_a_row < MAILS_IN_A_ROW { self.try_next() } else { None };
        self.in_a_row = if mail.is_some() { self.in_a_row + 1 } else { 0 };
        mail
    }

    /// Whether there is mail. If there is none, the next sender requests a turn of this event loop.
    pub(crate) fn await_on_loop(&mut self, host: &Arc<Host>) -> bool {
        self.shared.wakeup.get_or_init(|| Wakeup::Loop(host.clone()));
        let mut queue = self.shared.queue.lock();
        queue.is_awaited = queue.mails.is_empty();
        !queue.is_awaited
    }

    /// The next mail, or `None` if `receive` has come first: if it has succeeded, or has failed with anything but
    /// [`io::ErrorKind::WouldBlock`].
    pub(crate) fn next_or(&mut self, mut receive: impl FnMut(Patience<'_>) -> io::Result<()>) -> io::Result<Option<T>> {
        loop {
            if let Some(mail) = self.next_in_turn() {
                return Ok(Some(mail));
            }
            let waker = self.waker()?;
            let is_awaited = {
                let mut queue = self.shared.queue.lock();
                queue.is_awaited = queue.mails.is_empty();
                queue.is_awaited
            };
            let received = receive(if is_awaited { Patience::UntilWoken(waker) } else { Patience::None });
            self.shared.queue.lock().is_awaited = false;
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if is_awaited {
                        waker.clear();
                    }
                }
                received => return received.map(|()| None),
            }
        }
    }

    fn waker(&self) -> io::Result<&Waker> {
        let wakeup = match self.shared.wakeup.get() {
            Some(wakeup) => wakeup,
            None => {
                let waker = Waker::new()?;
                self.shared.wakeup.get_or_init(|| Wakeup::Thread(waker))
            }
        };
        match wakeup {
            Wakeup::Thread(waker) => Ok(waker),
            Wakeup::Loop(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl<T> Sender<T> {
    /// Sends without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], [`SendError::Closed`].
    pub fn try_send(&self, mail: T) -> Result<(), SendError<T>> {
        self.send_by(mail, Wait::Never)
    }

    /// Sends. If the mailbox is full it waits, for as long as the mailbox exists. A handler that calls this waits for
    /// another handler's client; two handlers that send to each other can wait for ever.
    ///
    /// The end of the server or of a connection does not interrupt the wait, as a mailbox exists until its handler has ended.
    /// A handler that waits here holds up the drain: a second after `timeouts(shutdown)` the server gives it up, and counts it
    /// as [`leaked`](crate::DrainReport::leaked). A handler should call [`send_timeout`](Self::send_timeout), with a time shorter
    /// than that, or [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`].
    pub fn send(&self, mail: T) -> Result<(), SendError<T>> {
        self.send_by(mail, Wait::Forever)
    }

    /// Sends. If the mailbox is full it waits, at most this long.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], [`SendError::Closed`].
    pub fn send_timeout(&self, mail: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_by(mail, Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until))
    }

    /// Whether the mailbox was dropped, with its handler: nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.shared.queue.lock().is_closed
    }

    fn send_by(&self, mail: T, wait: Wait) -> Result<(), SendError<T>> {
        let mut queue = self.shared.queue.lock();
        loop {
            if queue.is_closed {
                return Err(SendError::Closed(mail));
            }
            if queue.mails.len() < queue.capacity {
                break;
            }
            match wait {
                Wait::Forever => self.shared.has_room.wait(&mut queue),
                Wait::Until(deadline) if Instant::now() < deadline => {
                    let _ = self.shared.has_room.wait_until(&mut queue, deadline);
                }
                Wait::Until(_) | Wait::Never => return Err(SendError::Full(mail)),
            }
        }
        queue.mails.push_back(mail);
        let is_awaited = std::mem::take(&mut queue.is_awaited);
        drop(queue);
        if is_awaited {
            match self.shared.wakeup.get() {
                Some(Wakeup::Thread(waker)) => waker.wake(),
                Some(Wakeup::Loop(host)) => host.request_turn(),
                None => {}
            }
        }
        Ok(())
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.is_closed = true;
        let unread = std::mem::take(&mut queue.mails);
        drop(queue);
        self.shared.has_room.notify_all();
        // Dropping it runs the user's code, so the lock is not held.
        drop(unread);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { shared: self.shared.clone() }
    }
}

impl<T> SendError<T> {
    /// The mail.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(mail) | SendError::Closed(mail) => mail,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "the mailbox is full",
            SendError::Closed(_) => "the mailbox is gone, with its handler",
        })
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> Error for SendError<T> {}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
