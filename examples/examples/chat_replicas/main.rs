//! A chat that one process serves, or many behind a load balancer: what is said is in a Redis stream.
//!
//! ```console
//! $ redis-server --appendonly yes --appendfsync always
//! $ cargo run --example chat_replicas
//! listening on 127.0.0.1:9999
//! ```
//!
//! In another terminal:
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! * what is your name?
//! alice
//! * welcome, alice; your key is 5f8e…; you have said 0 lines; here are: bob
//! 1795689000123-0 * alice has joined
//! 1795689012345-0 <bob> hello
//! ```
//!
//! A newcomer is shown the last lines. A member whose connection ends without `/quit`, since its replica is restarted or
//! crashes, comes back to any replica with its key and the last line that it has seen: `alice 5f8e… 1795689012345-0`. It is
//! shown what was said meanwhile, and from the number of lines that it has said it knows which of its own have arrived. So no
//! line is lost or doubled, and all members see all lines in one order. Whoever is away for a minute is not here any more, and
//! the name is free.
//!
//! Many replicas: see `haproxy.cfg` beside this file. `chat_replicas ADDRESS AGENT_ADDRESS REDIS_ADDRESS PROXY…`: at the second
//! address a replica tells HAProxy's agent check how it does, and the proxies begin each connection with the address of the
//! client. On SIGTERM a replica tells the agent check to send no new clients. After five seconds it says goodbye to its members.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use log::{Id, Line, Log};
use redis::Redis;
use sessions::Session;
use sockserver::{
    Closing, ConnectionId, HandlerResult, HangUp, MailHandler, Mailbox, MessageHandler, Options, ProxyOptions,
    RequestHandler, Sender, Server, ServerHandle, Stream, Writer, framing::FrameError, message_handler,
    request_handler,
};

mod log;
mod redis;
mod sessions;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Member,
    limits(connections = 10_000),
    timeouts(idle = "1h", linger = "5s", shutdown = "20s"),
)]
struct Chat {
    redis: Arc<Redis>,
    log: Log,
    seats: Mutex<BTreeMap<ConnectionId, Seat>>,
}

/// A member of this replica.
struct Seat {
    name: String,
    /// Wakes the handler, which looks for new lines itself: more than one waking at a time is not needed.
    waker: Sender<()>,
}

impl Chat {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what is said at any replica.
    fn follow(&self, redis: &Redis) {
        let wake_all = || self.seats().values().for_each(|seat| _ = seat.waker.try_send(()));
        self.log.follow(redis, wake_all, sessions::REFRESH, |redis| {
            let names: Vec<_> = self.seats().values().map(|seat| seat.name.clone()).collect();
            // It is due again soon.
            let _ = sessions::refresh(redis, &names);
        });
    }
}

/// How many lines a newcomer is shown.
const HISTORY: usize = 20;

/// How long a member may not read what is sent to it. It may be silent for longer.
const UNREAD: Duration = Duration::from_secs(30);

#[message_handler(framing = "line", max_frame = "1KiB", mailbox = 1)]
struct Member {
    request: Stream,
    wfile: Writer,
    mailbox: Mailbox<()>,
    chat: Arc<Chat>,
    /// `None`: it has no name yet.
    #[default]
    session: Option<Session>,
    /// The last line that it was shown.
    #[default]
    seen: Id,
}

impl MessageHandler for Member {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.request.set_write_timeout(Some(UNREAD))?;
        Ok(writeln!(self.wfile, "* what is your name?")?)
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        let Some(session) = &mut self.session else { return self.introduce(line) };
        if line == "/quit" {
            session.leave()?;
            return Err(HangUp.into());
        }
        // The others' terminals must not obey a member.
        if !session.say(&line.replace(char::is_control, "?"))? {
            writeln!(self.wfile, "* you were away for too long, and {} is somebody else now", session.name)?;
            return Err(HangUp.into());
        }
        Ok(())
    }

    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        Ok(writeln!(self.wfile, "* nobody has seen that: {error}")?)
    }

    fn closing(&mut self, _why: Closing) -> HandlerResult {
        Ok(writeln!(self.wfile, "* this replica ends; come back with your key")?)
    }

    fn finish(&mut self) -> HandlerResult {
        self.chat.seats().remove(&self.request.id());
        Ok(())
    }
}

impl MailHandler for Member {
    type Mail = ();

    fn mail(&mut self, (): ()) -> HandlerResult {
        self.catch_up()
    }
}

impl Member {
    /// `NAME`, or `NAME KEY ID` of a member that comes back.
    fn introduce(&mut self, line: &str) -> HandlerResult {
        let words: Vec<_> = line.split(' ').collect();
        let (name, key, seen) = match words[..] {
            [name, key, id] => (name, Some(key), id.parse().ok()),
            [name] => (name, None, None),
            _ => ("", None, None),
        };
        if !is_name(name) || key.is_some() != seen.is_some() {
            writeln!(self.wfile, "* a name has 1 to 20 letters of a to z, digits, `-` and `_`; yours?")?;
            return Ok(());
        }
        let Some(session) = Session::join(&self.chat.redis, name, key)? else {
            let why = if key.is_some() { "that is not the key of" } else { "there is already" };
            return Ok(writeln!(self.wfile, "* {why} {name}; your name?")?);
        };
        let (key, said, others) = (&session.key, session.said, session.others.join(", "));
        writeln!(self.wfile, "* welcome, {name}; your key is {key}; you have said {said} lines; here are: {others}")?;
        self.session = Some(session);
        // From now on it is woken. A line that comes meanwhile is after what it has seen.
        let seat = Seat { name: name.to_owned(), waker: self.mailbox.sender() };
        self.chat.seats().insert(self.request.id(), seat);
        match seen {
            Some(seen) => self.seen = seen,
            None => self.show(self.chat.log.last(HISTORY)?)?,
        }
        self.catch_up()
    }

    /// Shows what was said after the last line that was shown. A member that reads slowly is behind, and loses nothing.
    fn catch_up(&mut self) -> HandlerResult {
        loop {
            let lines = self.chat.log.after(self.seen)?;
            if lines.is_empty() {
                return Ok(());
            }
            self.show(lines)?;
        }
    }

    fn show(&mut self, lines: Vec<Line>) -> io::Result<()> {
        for line in lines {
            writeln!(self.wfile, "{} {}", line.id, line.text)?;
            self.seen = line.id;
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Answers HAProxy's agent check.
#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Report, limits(connections = 16), timeouts(lifetime = "5s"))]
struct Agent {
    chat: ServerHandle,
}

#[request_handler]
struct Report {
    wfile: Writer,
    agent: Arc<Agent>,
}

impl RequestHandler for Report {
    fn handle(&mut self) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", if self.agent.chat.is_ready() { "up ready" } else { "drain" })?)
    }
}

fn options(proxies: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let trust = proxies.map(|proxy| proxy.parse()).collect::<Result<Vec<_>, _>>()?;
    Ok(match &trust[..] {
        [] => Chat::OPTIONS,
        _ => Chat::OPTIONS.proxy(ProxyOptions::new().trust(trust.leak())),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9999".into());
    let agent_address = arguments.next();
    let redis_address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:6379".into()).parse()?;
    let redis = Arc::new(Redis::new(redis_address));
    let log = Log::new(redis.clone())?;
    let server = Chat { redis, log, seats: Mutex::default() }.bind_with(address, options(arguments)?)?;
    server.shutdown_on_signals()?;
    let chat = server.server().clone();
    thread::spawn(move || chat.follow(&Redis::new(redis_address)));
    // It answers until this replica has ended.
    let agent = agent_address.map(|address| Agent { chat: server.handle() }.bind(address)?.spawn());
    let _agent = agent.transpose()?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}
