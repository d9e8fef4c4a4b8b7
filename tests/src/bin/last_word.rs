//! A server whose handlers end before their clients do: `last_word TRANSPORT CONCURRENCY WHEN BYTES [OPTION=VALUE]…
//! ADDRESS`. It serves until it is signalled, is killed, or has lost its parent. In place of an address `-` stands for
//! the one connection that its standard input is.
//!
//! When a handler writes so many bytes, WHEN says: in `setup`, which then fails; in `handle`, in `finish`, in `closing`;
//! when it is about to `fail` or to `panic`; `directly` on the connection; when it has left the connection to the
//! server, which has `kept` it; and before it has `shut` its side. A server that is to `refuse` its clients writes when
//! it verifies them. But for `closing`, where it waits for the server's end, no handler reads: it waits until its client
//! has sent something, unless it is `unasked`, and leaves it unread. Each says when it has ended.

use std::{
    error::Error,
    io::{self, Write},
    marker::PhantomData,
    mem::MaybeUninit,
    net::Shutdown,
    os::{fd::AsFd, unix::process::parent_id},
    process,
    sync::{Arc, Mutex},
    time::Duration,
};

use socket2::SockRef;
use sockserver::{
    Address, Closing, Concurrency, Context, FromRequest, HandlerResult, Options, Reader, RequestHandler, Server,
    ServerHandle, SocketServer, Stream, Writer,
    concurrency::{Forking, Pool, Synchronous, Threading},
    transport::{StreamTransport, Tcp, Transport, Unix},
};
use sockserver_tests::{last_word::word, place::Local};

struct LastWord<T, C> {
    when: String,
    bytes: Vec<u8>,
    /// It is written without a word of the client.
    unasked: bool,
    kept: Mutex<Vec<Stream>>,
    parent: u32,
    composition: PhantomData<fn() -> (T, C)>,
}

struct Session<T, C> {
    stream: Stream,
    rfile: Reader,
    wfile: Writer,
    server: Arc<LastWord<T, C>>,
}

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
    type Handler = Session<T, C>;
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
        if parent_id() != self.parent {
            process::exit(1);
        }
    }
}

impl<T: StreamTransport + Transport<Request = Stream>, C: Concurrency + Default> FromRequest<LastWord<T, C>>
    for Session<T, C>
{
    fn from_request(cx: &mut Context<'_, LastWord<T, C>>) -> io::Result<Session<T, C>> {
        Ok(Session {
            stream: Stream::from_request(cx)?,
            rfile: Reader::from_request(cx)?,
            wfile: Writer::from_request(cx)?,
            server: cx.server().clone(),
        })
    }
}

impl<T, C> RequestHandler for Session<T, C> {
    fn setup(&mut self) -> HandlerResult {
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
            "closing" => loop {
                self.rfile.next_line()?;
            },
            _ => Ok(()),
        }
    }

    fn closing(&mut self, _why: Closing) -> HandlerResult {
        self.write()
    }

    fn finish(&mut self) -> HandlerResult {
        if self.server.is_to("finish") { self.write() } else { Ok(()) }
    }
}

impl<T, C> Session<T, C> {
    fn write(&mut self) -> HandlerResult {
        self.server.wait_to_be_asked(&self.stream)?;
        Ok(self.wfile.write_all(&self.server.bytes)?)
    }
}

impl<T, C> Drop for Session<T, C> {
    fn drop(&mut self) {
        println!("ended");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [transport, concurrency, when, bytes, options @ .., address] = &arguments[..] else {
        return Err("last_word TRANSPORT CONCURRENCY WHEN BYTES [OPTION=VALUE]… ADDRESS".into());
    };
    let unasked = options.iter().any(|option| option == "unasked");
    let mut options = options.iter().filter(|option| *option != "unasked").try_fold(Options::new(), with_option)?;
    if concurrency != "pool" {
        // It means nothing there.
        options.workers = None;
    }
    let composition = (transport.as_str(), concurrency.as_str());
    let what = What { when, bytes: bytes.parse()?, unasked };
    match composition {
        ("tcp", "sync") => serve::<Tcp, Synchronous>(&what, options, address),
        ("tcp", "threading") => serve::<Tcp, Threading>(&what, options, address),
        ("tcp", "pool") => serve::<Tcp, Pool>(&what, options, address),
        ("tcp", "forking") => serve::<Tcp, Forking>(&what, options, address),
        ("unix", "sync") => serve::<Unix, Synchronous>(&what, options, address),
        ("unix", "threading") => serve::<Unix, Threading>(&what, options, address),
        ("unix", "pool") => serve::<Unix, Pool>(&what, options, address),
        ("unix", "forking") => serve::<Unix, Forking>(&what, options, address),
        _ => Err(format!("there is no {composition:?}").into()),
    }
}

struct What<'a> {
    when: &'a str,
    bytes: usize,
    unasked: bool,
}

fn serve<T, C>(what: &What<'_>, options: Options, address: &str) -> Result<(), Box<dyn Error>>
where
    T: Local + StreamTransport + Transport<Request = Stream>,
    C: Concurrency + Default,
{
    let server = LastWord::<T, C> {
        when: what.when.to_owned(),
        bytes: word(what.bytes),
        unasked: what.unasked,
        kept: Mutex::default(),
        parent: parent_id(),
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

fn with_option(mut options: Options, argument: &String) -> Result<Options, Box<dyn Error>> {
    match argument.split_once('=') {
        Some(("connections", value)) => options.limits.connections = Some(value.parse()?),
        Some(("workers", value)) => options.workers = Some(value.parse()?),
        // What lets `service_actions` see that the parent is gone.
        Some(("poll", value)) => options.timeouts.poll = Some(Duration::from_millis(value.parse()?)),
        _ => return Err(format!("there is no option {argument}").into()),
    }
    Ok(options)
}
