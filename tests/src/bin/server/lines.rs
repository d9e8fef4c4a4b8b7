//! Serves until it is told to stop: `lines CONCURRENCY [panic=abort] [OPTION=VALUE]… ADDRESS[,ADDRESS]…`. An ADDRESS is
//! as in `place.rs`. With `inetd` alone it serves its standard input.
//!
//! Each line is answered in upper case. Of some words a line does what they say: `stop` shuts the server down, `stats`
//! tells what it has done, `pid` tells the process that answers, `print TEXT` prints it on standard output, `run COMMAND`
//! answers with what a command of the shell prints, `reload` tells systemd of a reload, `send N` answers with that many
//! bytes, `fail TEXT` fails, `reset elsewhere` fails with what another connection of the handler could have failed with.
//!
//! On SIGUSR2 it hands its sockets over to the program of `SUCCESSOR`, or to this one, with the same arguments. With
//! `poll=MILLISECONDS` it sees the signal.

use std::{
    io::{self, Read, Write},
    marker::PhantomData,
    net::IpAddr,
    panic,
    process::{self, Command},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use signal_hook::{consts::SIGUSR2, flag};
use sockserver::{
    Address, Concurrency, HandlerResult, MessageHandler, Options, Reader, RequestHandler, Server, ServerHandle, Stream,
    Writer, message_handler, request_handler,
};
use sockserver_tests::{by_concurrency, either::Either};

use crate::{Ended, follow_parent, hand_over, options, place::Place};

#[derive(Server)]
#[server(
    transport = "stream",
    concurrency = C,
    handler = Either<Session, LineByLine>,
    hooks(
        server_activate = Self::keep_handle,
        verify_request = Self::is_welcome,
        service_actions = Self::on_turn,
    ),
)]
struct Lines<C: Concurrency + Default> {
    is_to_hand_over: Arc<AtomicBool>,
    handle: OnceLock<ServerHandle>,
    concurrency: PhantomData<C>,
}

#[request_handler(timeout = "3s")]
struct Session {
    request: Stream,
    rfile: Reader,
    wfile: Writer,
    handle: ServerHandle,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("exact", bytes) => self.rfile.read_exact(&mut vec![0; bytes.parse()?])?,
                ("hurry", milliseconds) => {
                    self.request.set_read_timeout(Some(Duration::from_millis(milliseconds.parse()?)))?;
                    self.rfile.next_line()?;
                }
                _ => obey(&line, &mut self.wfile, &self.handle)?,
            }
        }
        Ok(())
    }
}

/// The handler on an event loop.
#[message_handler(framing = "line", timeout = "3s")]
struct LineByLine {
    wfile: Writer,
    handle: ServerHandle,
}

impl MessageHandler for LineByLine {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        obey(line, &mut self.wfile, &self.handle)
    }
}

/// The lines that need no more than a writer.
fn obey(line: &str, wfile: &mut Writer, handle: &ServerHandle) -> HandlerResult {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("stop", _) => handle.shutdown(),
        ("stats", _) => writeln!(wfile, "{:?}", handle.stats())?,
        ("pid", _) => writeln!(wfile, "{}", process::id())?,
        ("print", text) => println!("{text}"),
        ("run", command) => {
            let output = Command::new("sh").args(["-c", command]).output()?;
            writeln!(wfile, "{}", String::from_utf8_lossy(&output.stdout).replace('\n', "; "))?;
        }
        ("reload", _) => handle.notify_reload(|| writeln!(wfile, "reloaded"))?,
        ("fail", text) => return Err(text.into()),
        // Without the message of a panic.
        ("resume", text) => panic::resume_unwind(Box::new(text.to_owned())),
        ("reset", _) => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        ("send", bytes) => io::copy(&mut io::repeat(b'x').take(bytes.parse()?), wfile).map(drop)?,
        _ => writeln!(wfile, "{}", line.to_uppercase())?,
    }
    Ok(())
}

impl<C: Concurrency + Default> Lines<C> {
    fn is_welcome(&self, _request: &Stream, client_address: &Address) -> bool {
        !matches!(client_address.ip(), Some(IpAddr::V4(ip)) if ip.octets().starts_with(&[127, 0, 1]))
    }

    fn keep_handle(&self, handle: &ServerHandle) {
        let _ = self.handle.set(handle.clone());
    }

    fn on_turn(&self) {
        follow_parent();
        if self.is_to_hand_over.swap(false, SeqCst) {
            hand_over(self.handle.get());
        }
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [concurrency, options @ .., address] = arguments else {
        return Err("lines CONCURRENCY [panic=abort] [OPTION=VALUE]… ADDRESS".into());
    };
    let options = match options {
        [first, rest @ ..] if first == "panic=abort" => {
            panic::set_hook(Box::new(|_| process::abort()));
            rest
        }
        options => options,
    };
    let options = options::parse(concurrency, options)?;
    by_concurrency!(concurrency, C => serve_lines::<C>(options, address))
}

fn serve_lines<C: Concurrency + Default>(options: Options, address: &str) -> Ended {
    let is_to_hand_over = Arc::new(AtomicBool::new(false));
    flag::register(SIGUSR2, is_to_hand_over.clone())?;
    let server = Lines::<C> { is_to_hand_over, handle: OnceLock::new(), concurrency: PhantomData };
    if address == "inetd" {
        return Ok(server.serve_inetd()?);
    }
    let server = server.bind_with(address.split(',').map(Place::parse).collect::<Vec<_>>(), options)?;
    server.notify_systemd()?;
    for address in server.server_addresses() {
        println!("listening on {address}");
    }
    Ok(server.serve_forever()?)
}
