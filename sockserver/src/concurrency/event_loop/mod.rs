//! Message handlers on a loop: no thread waits for a client.

use std::sync::Arc;

use crate::{
    acceptor::Acceptor,
    concurrency::Concurrency,
    job::Job,
    options::Options,
    request,
    service::{Request, Service},
};

mod hand_over;
mod inbox;
mod lending;
mod load;
mod loop_threads;
mod monitor;
mod occupancy;
mod poller;
mod server_loop;
mod talk;
mod timers;

use server_loop::ServerWork;

/// `"event_loop"`: one thread, or one of a few, serves all connections, message by message, and no thread waits for a client.
///
/// It serves [message handlers](crate::MessageHandler), which keep nothing on a stack between two messages. Their methods
/// may compute, wait for a lock or ask a database. If one has kept the loop for about a millisecond, another thread goes on
/// with the loop and with all other connections, while the method finishes on its own thread. A connection whose handler
/// was slow is served by such a spare thread at once, until it is quick again.
/// [`limits(threads)`](crate::Limits::threads) bounds these threads.
///
/// A turn handles at most 16 messages of one connection. What they write is sent together, at the end of the turn. While
/// the client has not taken all of it, its next messages wait, in the kernel. An idle connection holds no buffer. However busy
/// the connections are, while clients wait to be accepted, one is accepted for each 16 turns.
///
/// There is one such loop at first: while it is enough, it takes less time for each message than several. When all loops have
/// had something to do without a pause for 150 ms, and meanwhile a processor had nothing to do for half of the last 100 ms,
/// another one is started: at most one for each processor and each four of the threads. Or there are as many from the start
/// as `workers` says. A new connection is given to the loop that has the fewest; a loop that has had too much to do for 10 ms
/// gives connections to one that has nothing to do. Packets are served by one loop.
///
/// ```
/// use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};
/// use std::{io::{BufRead, BufReader, Write}, net::TcpStream, thread, time::Duration};
///
/// #[message_handler(framing = "line")]
/// #[server(transport = "tcp", concurrency = "event_loop")]
/// struct Slow {
///     wfile: Writer,
/// }
///
/// impl MessageHandler for Slow {
///     type Message = str;
///
///     fn message(&mut self, line: &str) -> HandlerResult {
///         // No other client waits for this one.
///         if line == "slow" {
///             thread::sleep(Duration::from_millis(200));
///         }
///         Ok(writeln!(self.wfile, "{line}")?)
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = SlowServer.bind("127.0.0.1:0")?.spawn()?;
/// let mut slow = TcpStream::connect(server.server_address())?;
/// slow.write_all(b"slow\n")?;
/// let mut quick = TcpStream::connect(server.server_address())?;
/// quick.write_all(b"quick\n")?;
/// let mut answer = String::new();
/// BufReader::new(&quick).read_line(&mut answer)?;
/// assert_eq!(answer, "quick\n");
/// # Ok(()) }
/// ```
///
/// [`handle_request`](crate::SocketServer::handle_request) and
/// [`serve_connection`](crate::Server::serve_connection) have one connection, and wait for its client on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventLoop;

/// How many threads there are at most, unless the options say so.
const THREADS: usize = 256;

/// How many threads there are at least for each loop that is started when the others have too much to do.
const THREADS_FOR_EACH: usize = 4;

/// How many connections are served at once, unless the options or the descriptors of the process say so.
const CONNECTIONS: usize = 100_000;

impl Concurrency for EventLoop {
    fn process_request<S: Service>(&self, job: Job<S>) {
        job.process();
    }

    fn serve<S: Service>(&self, acceptor: &Arc<Acceptor<S>>) {
        // The loops keep themselves alive until all connections have ended.
        let Options { workers, limits, .. } = acceptor.options();
        let threads = limits.threads.unwrap_or(THREADS);
        // Packets are served while they are accepted, which one loop does.
        let (loops, most) = match workers {
            _ if !request::is_stream::<Request<S>>() => (1, 1),
            Some(workers) => (*workers, *workers),
            None => (1, super::processors().min(threads / THREADS_FOR_EACH).max(1)),
        };
        if let Err(error) = ServerWork::start(acceptor, loops, most, threads) {
            acceptor.state().fail(error);
        }
        acceptor.wait_for_stop();
    }

    fn max_connections(&self, options: &Options) -> usize {
        options.limits.connections.unwrap_or_else(|| super::within_descriptors(CONNECTIONS, 1))
    }
}
