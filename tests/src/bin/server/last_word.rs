//! A server whose handlers end before their clients do: `last_word TRANSPORT CONCURRENCY WHEN BYTES [unasked]
//! [OPTION=VALUE]… ADDRESS`. It serves until it is signalled. In place of an address `-` stands for
//! the one connection that its standard input is.
//!
//! When a handler writes so many bytes, WHEN says: in `setup`, which then fails; in `handle`, in `finish`, in `closing`;
//! when it is about to `fail` or to `panic`; `directly` on the connection; when it has left the connection to the
//! server, which has `kept` it; and before it has `shut` its side. A server that is to `refuse` its clients writes when
//! it verifies them. But for `closing`, where it waits for the server's end, no handler reads: it waits until its client
//! has sent something, unless it is `unasked`, and leaves it unread. Each says when it has ended. On an event loop `setup` does
//! what `handle` does elsewhere, and fails then, so that nothing is read there either; `finish` follows a line there.

use std::{
    io::{self, Write},
    marker::PhantomData,
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::AsFd,
    sync::{Arc, Mutex},
};

use socket2::SockRef;
use sockserver::{
    Address, Closing, Concurrency, Context, FromRequest, HandlerResult, HangUp, MessageHandler, Options, Reader,
    RequestHandler, Server, ServerHandle, SocketServer, Stream, Writer,
    transport::{StreamTransport, Tcp, Transport, Unix},
};
use sockserver_tests::{by_concurrency, either::Either, last_word::word, place::Local};

use crate::{Ended, follow_parent, options};

struct LastWord<T, C> {
    when: String,
    bytes: Vec<u8>,
    /// It is written without a word of the client.
    unasked: bool,
    kept: Mutex<Vec<Stream>>,
    composition: PhantomData<fn() -> (T, C)>,
}

struct Session<T, C> {
    rfile: Reader,
    writing: Writing<T, C>,
}

/// What both kinds of handlers have.
struct Writing<T, C> {
    stream: Stream,
    wfile: Writer,
    server: Arc<LastWord<T, C>>,
}

/// The handler on an event loop.
struct LineSession<T, C>(Writing<T, C>);

impl<T, C> LastWord<T, C> {
    fn is_to(&self, when: &str) -> bool {
        self.when == when
    }

    /// Waits until the client has sent something, or has ended.
    fn wait_to_be_asked(&self, client: &Stream) -> io::Result<()> {
        if !self.unasked && !self.is_to("closing") {
            SockRef::from(client).peek(&mut [MaybeUninit::uninit()])?;
        }
        Ok(())
    }
}

impl<T: StreamTransport + Transport<Request = Stream>, C: Concurrency + Default> Server for LastWord<T, C> {
    type Transport = T;
    type Concurrency = C;
    type Handler = Either<Session<T, C>, LineSession<T, C>>;
    const OPTIONS: Options = Options::new();

    fn verify_request(&self, mut request: &Stream, _client_address: &Address) -> bool {
        if self.is_to("refuse") {
            // Whoever does not take it has hung up.
            let _ = self.wait_to_be_asked(request).and_then(|()| request.write_all(&self.bytes));
            println!("ended");
        }
        !self.is_to("refuse")
    }

    fn service_actions(&self) {
        follow_parent();
    }
}

impl<T: StreamTransport + Transport<Request = Stream>, C: Concurrency + Default> FromRequest<LastWord<T, C>>
    for Session<T, C>
{
    fn from_request(cx: &mut Context<'_, LastWord<T, C>>) -> io::Result<Session<T, C>> {
        Ok(Session { rfile: Reader::from_request(cx)?, writing: Writing::from_request(cx)? })
    }
}

impl<T: StreamTransport + Transport<Request = Stream>, C: Concurrency + Default> FromRequest<LastWord<T, C>>
    for LineSession<T, C>
{
    fn from_request(cx: &mut Context<'_, LastWord<T, C>>) -> io::Result<LineSession<T, C>> {
        Ok(LineSession(Writing::from_request(cx)?))
    }
}

impl<T: StreamTransport + Transport<Request = Stream>, C: Concurrency + Default> FromRequest<LastWord<T, C>>
    for Writing<T, C>
{
    fn from_request(cx: &mut Context<'_, LastWord<T, C>>) -> io::Result<Writing<T, C>> {
        Ok(Writing { stream: Stream::from_request(cx)?, wfile: Writer::from_request(cx)?, server: cx.server().clone() })
    }
}

impl<T, C> RequestHandler for Session<T, C> {
    fn setup(&mut self) -> HandlerResult {
        self.writing.set_up()
    }

    fn handle(&mut self) -> HandlerResult {
        while self.writing.server.is_to("closing") {
            self.rfile.next_line()?;
        }
        self.writing.handle()
    }

    fn closing(&mut self, _why: Closing) -> HandlerResult {
        self.writing.write()
    }

    fn finish(&mut self) -> HandlerResult {
        if self.writing.server.is_to("finish") { self.writing.write() } else { Ok(()) }
    }
}

impl<T: 'static, C: 'static> MessageHandler for LineSession<T, C> {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.0.set_up()?;
        if self.0.server.is_to("closing") || self.0.server.is_to("finish") {
            return Ok(());
        }
        self.0.handle()?;
        Err("it is over".into())
    }

    fn message(&mut self, _: &str) -> HandlerResult {
        Err(HangUp.into())
    }

    fn closing(&mut self, _why: Closing) -> HandlerResult {
        self.0.write()
    }

    fn finish(&mut self) -> HandlerResult {
        // The client has asked, with a line.
        if self.0.server.is_to("finish") { Ok(self.0.wfile.write_all(&self.0.server.bytes)?) } else { Ok(()) }
    }
}

impl<T, C> Writing<T, C> {
    fn set_up(&mut self) -> HandlerResult {
        if self.server.is_to("setup") {
            self.write()?;
            return Err("as it was told to".into());
        }
        Ok(())
    }

    fn handle(&mut self) -> HandlerResult {
        match self.server.when.as_str() {
            "handle" => self.write(),
            "directly" => {
                self.server.wait_to_be_asked(&self.stream)?;
                Ok(self.stream.write_all(&self.server.bytes)?)
            }
            "kept" => {
                self.server.kept.lock().unwrap().push(self.stream.clone());
                self.write()
            }
            "shut" => {
                self.write()?;
                Ok(self.stream.shutdown(Shutdown::Write)?)
            }
            "fail" => {
                self.write()?;
                Err("as it was told to".into())
            }
            "panic" => {
                self.write()?;
                panic!("as it was told to")
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self) -> HandlerResult {
        self.server.wait_to_be_asked(&self.stream)?;
        Ok(self.wfile.write_all(&self.server.bytes)?)
    }
}

impl<T, C> Drop for Writing<T, C> {
    fn drop(&mut self) {
        println!("ended");
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [transport, concurrency, when, bytes, options @ .., address] = arguments else {
        return Err("last_word TRANSPORT CONCURRENCY WHEN BYTES [unasked] [OPTION=VALUE]… ADDRESS".into());
    };
    let (unasked, options) = match options {
        [first, rest @ ..] if first == "unasked" => (true, rest),
        options => (false, options),
    };
    let options = options::parse(concurrency, options)?;
    let what = What { when, bytes: bytes.parse()?, unasked };
    match transport.as_str() {
        "tcp" => by_concurrency!(concurrency, C => serve_last_word::<Tcp, C>(&what, options, address)),
        "unix" => by_concurrency!(concurrency, C => serve_last_word::<Unix, C>(&what, options, address)),
        _ => Err(format!("there is no transport {transport}").into()),
    }
}

struct What<'a> {
    when: &'a str,
    bytes: usize,
    unasked: bool,
}

fn serve_last_word<T, C>(what: &What<'_>, options: Options, address: &str) -> Ended
where
    T: Local + StreamTransport + Transport<Request = Stream>,
    C: Concurrency + Default,
{
    let server = LastWord::<T, C> {
        when: what.when.to_owned(),
        bytes: word(what.bytes),
        unasked: what.unasked,
        kept: Mutex::default(),
        composition: PhantomData,
    };
    if address == "-" {
        return Ok(server.serve_connection(io::stdin().as_fd().try_clone_to_owned()?)?);
    }
    let address = address.parse().map_or_else(|_| Address::unix(address), Address::Inet);
    let server: SocketServer<_> = T::bind(server, &address, options)?;
    server.shutdown_on_signals()?;
    let handle: ServerHandle = server.handle();
    println!("listening on {}", server.server_address());
    server.serve_forever()?;
    println!("stopped {:?}", handle.wait()?);
    Ok(())
}
