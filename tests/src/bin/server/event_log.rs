//! A server that prints every event: `event_log CONCURRENCY OPTIONS ADDRESS`, with the options in JSON.
//!
//! It answers each line in upper case. Of some words a line does what they say: `stop`, `suspend` (and resume), `kick`,
//! `ban` (its client), `bytes` (of each connection), `fail`, `panic`, `exit` (of the process). `verify_request` refuses 127.0.1.0/24, panics for 127.0.2.0/24, and takes 1.5 s
//! for 127.0.3.0/24.

use std::{
    io::{Read, Write},
    marker::PhantomData,
    net::IpAddr,
    process, thread,
    time::Duration,
};

use sockserver::{
    Address, Concurrency, ConnectionId, Event, HandlerError, HandlerResult, MessageHandler, Options, Reader,
    RequestHandler, Server, ServerHandle, Stream, Writer, message_handler, request_handler,
};
use sockserver_tests::{by_concurrency, either::Either};

use crate::Ended;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Either<Session, LineByLine>,
    hooks(verify_request = Self::is_welcome, handle_error = Self::say_nothing, event = Self::print),
)]
struct EventLog<C: Concurrency + Default>(PhantomData<C>);

impl<C: Concurrency + Default> EventLog<C> {
    fn is_welcome(&self, _request: &Stream, client_address: &Address) -> bool {
        let Some(IpAddr::V4(ip)) = client_address.ip() else { return true };
        match ip.octets()[2] {
            1 => false,
            2 => panic!("an unwelcome guest"),
            3 => {
                thread::sleep(Duration::from_millis(1500));
                true
            }
            _ => true,
        }
    }

    fn say_nothing(&self, _error: &HandlerError, _client_address: &Address) {}

    fn print(&self, event: &Event<'_>) {
        match event {
            Event::Listening(address) => println!("listening on {address}"),
            Event::Accepted(connection) => println!("{} accepted", connection.id()),
            Event::Started(connection) => println!("{} started", connection.id()),
            Event::Ended { connection, outcome, error, .. } => {
                let info = connection.info();
                assert_eq!((info.bytes_in, info.bytes_out), (connection.bytes_in(), connection.bytes_out()));
                let closing = info.closing.map(|closing| format!(" {closing:?}")).unwrap_or_default();
                let error = error.map(|error| format!(": {error}")).unwrap_or_default();
                println!("{} {outcome} {} {}{closing}{error}", info.id, info.bytes_in, info.bytes_out);
            }
            Event::TurnedAway { connection, why, .. } => println!("{} turned away: {why}", connection.id()),
            event => println!("{event:?}"),
        }
        // What it does to itself does it no harm.
        if let Event::Suspended = event {
            panic!("in the hook");
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[request_handler]
struct Session {
    rfile: Reader,
    wfile: Writer,
    id: ConnectionId,
    server: ServerHandle,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.as_str() {
                "exact" => self.rfile.read_exact(&mut [0; 100])?,
                line => obey(line, &mut self.wfile, &self.server, self.id)?,
            }
        }
        Ok(())
    }
}

/// The handler on an event loop.
#[message_handler(framing = "line")]
struct LineByLine {
    request: Stream,
    wfile: Writer,
    id: ConnectionId,
    server: ServerHandle,
}

impl MessageHandler for LineByLine {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        match line {
            "exact" => Ok((&self.request).read_exact(&mut [0; 100])?),
            line => obey(line, &mut self.wfile, &self.server, self.id),
        }
    }
}

/// The lines that need no more than a writer.
fn obey(line: &str, wfile: &mut Writer, server: &ServerHandle, id: ConnectionId) -> HandlerResult {
    match line {
        "stop" => server.shutdown(),
        "suspend" => {
            server.suspend();
            server.suspend();
            server.resume();
            server.resume();
        }
        "kick" => _ = server.close(id),
        "ban" => {
            let client = server.connections().into_iter().find(|it| it.id == id);
            client.and_then(|it| it.client_address.ip()).into_iter().for_each(|ip| server.ban(ip, HOUR));
        }
        "bytes" => {
            let bytes: Vec<_> = server.connections().iter().map(|it| it.bytes_in.to_string()).collect();
            writeln!(wfile, " {} ", bytes.join(" "))?;
        }
        "fail" => return Err("no disk".into()),
        "panic" => panic!("no luck"),
        "exit" => process::exit(3),
        line => writeln!(wfile, "{}", line.to_uppercase())?,
    }
    Ok(())
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    // A panic is an event.
    std::panic::set_hook(Box::new(|_| {}));
    let [concurrency, options, address] = arguments else {
        return Err("event_log CONCURRENCY OPTIONS ADDRESS".into());
    };
    let options = serde_json::from_str(options)?;
    by_concurrency!(concurrency, C => serve_event_log::<C>(options, address))
}

fn serve_event_log<C: Concurrency + Default>(options: Options, address: &str) -> Ended {
    Ok(EventLog::<C>(PhantomData).bind_with(address, options)?.serve_forever()?)
}
