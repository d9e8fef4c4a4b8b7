//! sockserver.

use std::{
    io::{self, BufRead, Write},
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use sockserver::{
    BindTo, Concurrency, Datagram, FrameWriter, HandlerResult, MailHandler, Mailbox, MessageHandler, Options, Reader,
    RequestHandler, Sender, Server, SocketServer, TlsOptions, Writer,
    concurrency::{EventLoop, Threading},
    framing::Line,
    message_handler, request_handler,
};

use super::{BULK, CERTIFICATE, GREETING, KEY, Service};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading", limits(connections = 10_000))]
struct Lines {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: Vec<u8>,
}

impl RequestHandler for Lines {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_until(b'\n', &mut self.line)? > 0 {
            self.wfile.write_all(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Computing {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: Vec<u8>,
}

impl RequestHandler for Computing {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_until(b'\n', &mut self.line)? > 0 {
            super::be_slow_if_told(&self.line);
            self.wfile.write_all(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Bulk {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: Vec<u8>,
}

impl RequestHandler for Bulk {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_until(b'\n', &mut self.line)? > 0 {
            self.wfile.write_all(&BULK)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct Packets {
    request: Datagram,
}

impl RequestHandler for Packets {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.request.reply(self.request.payload())?)
    }
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct Messages {
    answers: FrameWriter<Line>,
}

impl MessageHandler for Messages {
    type Message = [u8];

    fn message(&mut self, line: &[u8]) -> HandlerResult {
        Ok(self.answers.send(line)?)
    }
}

#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = C, handler = Member<C>, limits(connections = 10_000))]
struct Broadcast<C: Concurrency + Default> {
    members: Mutex<Vec<Sender<Arc<[u8]>>>>,
    concurrency: PhantomData<C>,
}

#[message_handler(framing = "line")]
struct Member<C: Concurrency + Default> {
    wfile: Writer,
    lines: FrameWriter<Line>,
    mailbox: Mailbox<Arc<[u8]>>,
    server: Arc<Broadcast<C>>,
}

impl<C: Concurrency + Default> MessageHandler for Member<C> {
    type Message = [u8];

    fn setup(&mut self) -> HandlerResult {
        self.server.members.lock().unwrap_or_else(PoisonError::into_inner).push(self.mailbox.sender());
        Ok(self.wfile.write_all(&GREETING)?)
    }

    fn message(&mut self, line: &[u8]) -> HandlerResult {
        let line: Arc<[u8]> = line.into();
        let mut members = self.server.members.lock().unwrap_or_else(PoisonError::into_inner);
        // A member that does not read loses what its mailbox cannot hold.
        members.retain(|member| member.try_send(line.clone()).is_ok() || !member.is_closed());
        Ok(())
    }
}

impl<C: Concurrency + Default> MailHandler for Member<C> {
    type Mail = Arc<[u8]>;

    fn mail(&mut self, line: Arc<[u8]>) -> HandlerResult {
        Ok(self.lines.send(&line[..])?)
    }
}

pub fn serve_messages() -> io::Result<()> {
    run(MessagesServer, false)
}

/// On an event loop.
mod on_loop {
    use std::io::Write;

    use sockserver::{HandlerResult, MessageHandler, Writer, message_handler};

    use super::super::{BULK, be_slow_if_told};

    macro_rules! handlers {
        ($($name:ident: |$writer:ident, $line:ident| $answer:block)*) => { $(
            #[message_handler(framing = "line")]
            #[server(
                transport = "tcp",
                concurrency = "event_loop",
                limits(connections = 100_000),
            )]
            pub(super) struct $name {
                wfile: Writer,
            }

            impl MessageHandler for $name {
                type Message = [u8];

                fn message(&mut self, $line: &[u8]) -> HandlerResult {
                    let $writer = &mut self.wfile;
                    $answer
                    Ok(())
                }
            }
        )* };
    }

    /// A packet is a message. It has no line's end.
    #[message_handler(framing = "line")]
    #[server(transport = "udp", concurrency = "event_loop")]
    pub(super) struct Packets {
        wfile: Writer,
    }

    impl MessageHandler for Packets {
        type Message = [u8];

        fn message(&mut self, packet: &[u8]) -> HandlerResult {
            Ok(self.wfile.write_all(packet)?)
        }
    }

    handlers! {
        Lines: |writer, line| {
            writer.write_all(line)?;
            writer.write_all(b"\n")?;
        }
        Computing: |writer, line| {
            be_slow_if_told(line);
            writer.write_all(line)?;
            writer.write_all(b"\n")?;
        }
        Bulk: |writer, _line| { writer.write_all(&BULK)? }
    }
}

/// `None`: one loop, and more as needed.
pub fn serve_on_loops(service: Service, loops: Option<usize>) -> io::Result<()> {
    match service {
        Service::OneLine | Service::Lines | Service::Stopping => run_on_loops(on_loop::LinesServer, loops),
        Service::Computing => run_on_loops(on_loop::ComputingServer, loops),
        Service::Bulk => run_on_loops(on_loop::BulkServer, loops),
        Service::Packets => run(on_loop::PacketsServer, false),
        Service::TlsLines => run_with(on_loop::LinesServer, encrypted::<on_loop::LinesServer>(loops)),
        Service::TlsBulk => run_with(on_loop::BulkServer, encrypted::<on_loop::BulkServer>(loops)),
        Service::Broadcast => run_on_loops(Broadcast::<EventLoop>::default(), loops),
        Service::Store => Err(io::Error::other("the store is an example, `kv`")),
    }
}

pub fn serve(service: Service, on_signals: bool) -> io::Result<()> {
    match service {
        Service::OneLine | Service::Lines | Service::Stopping => run(LinesServer, on_signals),
        Service::Computing => run(ComputingServer, on_signals),
        Service::Bulk => run(BulkServer, on_signals),
        Service::Broadcast => run(Broadcast::<Threading>::default(), on_signals),
        Service::Packets => run(PacketsServer, on_signals),
        Service::TlsLines => run_with(LinesServer, encrypted::<LinesServer>(None)),
        Service::TlsBulk => run_with(BulkServer, encrypted::<BulkServer>(None)),
        Service::Store => Err(io::Error::other("the store is an example, `kv`")),
    }
}

/// The options of the attribute, with a certificate.
fn encrypted<S: Server>(loops: Option<usize>) -> Options {
    let mut options = S::OPTIONS;
    options.workers = loops;
    options.limits.handshakes = options.limits.connections;
    options.tls(TlsOptions::new().certificate(CERTIFICATE).key(KEY))
}

fn run<S: Server>(server: S, on_signals: bool) -> io::Result<()>
where
    &'static str: BindTo<S::Transport>,
{
    serve_bound(server.bind("127.0.0.1:0")?, on_signals)
}

fn run_on_loops<S: Server>(server: S, loops: Option<usize>) -> io::Result<()>
where
    &'static str: BindTo<S::Transport>,
{
    let mut options = S::OPTIONS;
    options.workers = loops;
    run_with(server, options)
}

fn run_with<S: Server>(server: S, options: Options) -> io::Result<()>
where
    &'static str: BindTo<S::Transport>,
{
    serve_bound(server.bind_with("127.0.0.1:0", options)?, false)
}

fn serve_bound<S: Server>(server: SocketServer<S>, on_signals: bool) -> io::Result<()> {
    if on_signals {
        server.shutdown_on_signals()?;
    }
    super::announce(server.server_address().port().unwrap_or_default());
    let handle = server.handle();
    super::when_told(move || handle.shutdown());
    server.serve_forever()?;
    super::stopped();
    Ok(())
}
