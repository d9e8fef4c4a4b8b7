//! A server whose handlers fail: `failures TRANSPORT CONCURRENCY CASES ADDRESS`. It says where it listens, then what
//! `handle_error` is told, a line for each error, and at the end its counters.
//!
//! `CASES` is `STAGE:HOW:KIND,…`: the first client gets the first one, and so on, one client after the other. `HOW` is
//! `made` (by the handler), `told` (with a text), `other` (an error of another connection), `late` (the same, after the
//! client's end of file), or `own` (of the connection to the client); `KIND` is the kind of the error. With `wrapped-` before
//! it, the error is the source of another one, with `hidden-` it is inside another one that has no source, as with
//! serde_json. With `bomb-`, the error panics when it is dropped, and `handle_error` panics too.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind, Read, Write},
    marker::PhantomData,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use sockserver::{
    Address, BoxError, Closing, Concurrency, Context, FromRequest, HandlerError, HandlerResult, Options, Reader,
    RequestHandler, Server, ServerHandle, Transport, Writer,
    transport::{Tcp, Udp, Unix, UnixDatagram},
};
use sockserver_tests::by_concurrency;
use sockserver_tests::{place::Local, script::words_of};

use crate::{Ended, follow_parent};

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [transport, concurrency, cases, address] = arguments else {
        return Err("failures TRANSPORT CONCURRENCY CASES ADDRESS".into());
    };
    match transport.as_str() {
        "tcp" => serve_by::<Tcp>(concurrency, cases, &Address::Inet(address.parse()?)),
        "udp" => serve_by::<Udp>(concurrency, cases, &Address::Inet(address.parse()?)),
        "unix" => serve_by::<Unix>(concurrency, cases, &Address::unix(address)),
        "unix_datagram" => serve_by::<UnixDatagram>(concurrency, cases, &Address::unix(address)),
        _ => Err(format!("there is no transport {transport}").into()),
    }
}

fn serve_by<T: Local>(concurrency: &str, cases: &str, address: &Address) -> Ended {
    by_concurrency!(concurrency, C => serve_failures::<T, C>(cases, address))
}

fn serve_failures<T: Local, C: Concurrency + Default>(cases: &str, address: &Address) -> Ended {
    let cases = cases.split(',').map(Case::parse).collect::<Result<_, _>>()?;
    let server = Failures::<T, C> { cases, welcomed: AtomicUsize::new(0), composition: PhantomData };
    let server = T::bind(server, address, Options::new())?;
    println!("listening on {}", server.server_address());
    let handle = server.handle();
    server.serve_forever()?;
    println!("stats {:?}", handle.stats());
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Case {
    stage: &'static str,
    how: &'static str,
    kind: ErrorKind,
    wrapping: Wrapping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapping {
    None,
    Wrapped,
    Hidden,
    Bomb,
}

const KINDS: [ErrorKind; 6] = [
    ErrorKind::BrokenPipe,
    ErrorKind::ConnectionAborted,
    ErrorKind::ConnectionReset,
    ErrorKind::NotConnected,
    ErrorKind::UnexpectedEof,
    ErrorKind::TimedOut,
];

impl Case {
    fn parse(text: &str) -> Result<Case, String> {
        let known = |word: &str, words: &[&'static str]| words.iter().find(|known| **known == word).copied();
        let parse = || {
            let [stage, how, kind] = text.split(':').collect::<Vec<_>>().try_into().ok()?;
            let (wrapping, how) = match how.split_once('-') {
                None => (Wrapping::None, how),
                Some(("wrapped", how)) => (Wrapping::Wrapped, how),
                Some(("hidden", how)) => (Wrapping::Hidden, how),
                Some(("bomb", how)) => (Wrapping::Bomb, how),
                Some(_) => return None,
            };
            Some(Case {
                stage: known(stage, &["construction", "setup", "handle", "closing", "finish"])?,
                how: known(how, &["made", "told", "closing", "other", "late", "own"])?,
                kind: KINDS.into_iter().find(|known| format!("{known:?}") == kind)?,
                wrapping,
            })
        };
        parse().ok_or_else(|| format!("there is no case {text}"))
    }

    fn fail(self, rfile: &mut Reader, wfile: &mut Writer) -> BoxError {
        let error = match self.how {
            "made" => self.kind.into(),
            "told" => io::Error::new(self.kind, "not of the client"),
            "closing" => io::Error::new(self.kind, Closing::Draining),
            "other" => error_of_another_connection(self.kind),
            "late" => {
                rfile.read_to_end(&mut Vec::new()).expect("the client ends");
                error_of_another_connection(self.kind)
            }
            _ => error_of_the_client(self.kind, rfile, wfile),
        };
        assert_eq!(error.kind(), self.kind, "{error}");
        match self.wrapping {
            Wrapping::None => error.into(),
            Wrapping::Wrapped => Box::new(Wrapped(error)),
            Wrapping::Hidden => Box::new(Hidden(error)),
            Wrapping::Bomb => Box::new(Bomb),
        }
    }
}

fn error_of_another_connection(kind: ErrorKind) -> io::Error {
    let fail = || match kind {
        ErrorKind::BrokenPipe => {
            let (mut one, _) = UnixStream::pair()?;
            one.write_all(b"!")
        }
        ErrorKind::UnexpectedEof => {
            let (mut one, _) = UnixStream::pair()?;
            one.read_exact(&mut [0])
        }
        ErrorKind::ConnectionReset => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let mut one = TcpStream::connect(listener.local_addr()?)?;
            let (other, _) = listener.accept()?;
            SockRef::from(&other).set_linger(Some(Duration::ZERO))?;
            drop(other);
            one.read_exact(&mut [0])
        }
        ErrorKind::NotConnected => Socket::new(Domain::IPV4, Type::STREAM, None)?.peer_addr().map(drop),
        ErrorKind::ConnectionAborted => Err(io::Error::from_raw_os_error(libc::ECONNABORTED)),
        _ => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
    };
    fail().expect_err("it fails")
}

/// The client does what it takes.
fn error_of_the_client(kind: ErrorKind, rfile: &mut Reader, wfile: &mut Writer) -> io::Error {
    let mut fail = || match kind {
        ErrorKind::UnexpectedEof => rfile.read_exact(&mut [0; 100]),
        // The first error is the reset, of which the socket tells once.
        ErrorKind::BrokenPipe => {
            let _ = rfile.read_to_end(&mut Vec::new());
            wfile.write_all(b"!").and_then(|()| wfile.flush())
        }
        _ => loop {
            rfile.next_line().map(drop)?;
        },
    };
    fail().expect_err("it fails")
}

/// An error of a handler's own.
#[derive(Debug)]
struct Wrapped(io::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// An error of a parser, which stands for the error of its reader.
#[derive(Debug)]
struct Hidden(io::Error);

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hidden: {}", self.0)
    }
}

impl Error for Hidden {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[derive(Debug)]
struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

struct Failures<T, C> {
    cases: Vec<Case>,
    welcomed: AtomicUsize,
    composition: PhantomData<fn() -> (T, C)>,
}

impl<T: Transport, C: Concurrency + Default> Server for Failures<T, C> {
    type Transport = T;
    type Concurrency = C;
    type Handler = Failing;
    const OPTIONS: Options = Options::new();

    /// In the parent, where there are children.
    fn verify_request(&self, _request: &T::Request, _client_address: &Address) -> bool {
        self.welcomed.fetch_add(1, SeqCst);
        true
    }

    fn handle_error(&self, error: &HandlerError, _client_address: &Address) {
        let (stage, is_panic) = (error.stage(), error.is_panic());
        let (is_disconnect, is_timeout) = (error.is_disconnect(), error.is_timeout());
        let words = words_of(error);
        println!("{stage:?}, disconnect {is_disconnect}, timeout {is_timeout}, panic {is_panic}: {words}");
        assert!(!words.ends_with("a bomb"), "{words}");
    }

    fn service_actions(&self) {
        follow_parent();
    }
}

struct Failing {
    case: Case,
    rfile: Reader,
    wfile: Writer,
    handle: ServerHandle,
}

impl<T: Transport, C: Concurrency + Default> FromRequest<Failures<T, C>> for Failing {
    fn from_request(cx: &mut Context<'_, Failures<T, C>>) -> io::Result<Failing> {
        let Failures { cases, welcomed, .. } = &**cx.server();
        let case = cases[welcomed.load(SeqCst) - 1];
        if (case.how, case.kind) == ("own", ErrorKind::TimedOut) {
            cx.set_timeout(Duration::from_millis(20))?;
        }
        let (rfile, wfile) = (Reader::from_request(cx)?, Writer::from_request(cx)?);
        let mut failing = Failing { case, rfile, wfile, handle: cx.handle().clone() };
        failing.enter("construction").map_err(|error| match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        })?;
        Ok(failing)
    }
}

impl Failing {
    fn enter(&mut self, stage: &str) -> HandlerResult {
        if self.case.stage == stage { Err(self.case.fail(&mut self.rfile, &mut self.wfile)) } else { Ok(()) }
    }
}

impl RequestHandler for Failing {
    fn setup(&mut self) -> HandlerResult {
        self.enter("setup")
    }

    fn handle(&mut self) -> HandlerResult {
        if self.case.stage == "closing" {
            self.handle.shutdown();
            while self.rfile.next_line()?.is_some() {}
        }
        self.enter("handle")
    }

    fn closing(&mut self, _why: Closing) -> HandlerResult {
        self.enter("closing")
    }

    fn finish(&mut self) -> HandlerResult {
        self.enter("finish")
    }
}
