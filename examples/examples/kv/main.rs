//! A key-value store that Redis's clients talk to: a framing of one's own, and what the connections share.
//!
//! ```console
//! $ cargo run --release --example kv
//! listening on 127.0.0.1:6379
//! ```
//!
//! ```console
//! $ redis-cli SET greeting hello
//! OK
//! $ redis-cli GET greeting
//! "hello"
//! $ redis-benchmark -t set,get,incr -P 16
//! ```
//!
//! It knows `GET`, `SET`, `DEL`, `INCR`, `EXPIRE`, `PING`, `INFO` and `QUIT`, and what clients ask for when they connect. All is in
//! memory, and gone when the server ends.

use std::{
    env, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use resp::{Reply, Request, Resp};
use sockserver::{
    FrameWriter, HandlerResult, HangUp, MessageHandler, Server, ServerHandle, framing::FrameError, message_handler,
};
use store::{Store, integer};

mod resp;
mod store;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    limits(connections = 10_000),
    timeouts(message = "1m"),
)]
struct Kv {
    store: Store,
    commands: AtomicU64,
    started: Instant,
}

#[message_handler(framing = Resp, max_frame = "1MiB")]
struct Session {
    replies: FrameWriter<Resp>,
    kv: Arc<Kv>,
    handle: ServerHandle,
}

impl MessageHandler for Session {
    type Message = Request<'static>;

    fn message(&mut self, request: Request<'_>) -> HandlerResult {
        if let [name, arguments @ ..] = &request.words[..] {
            self.kv.commands.fetch_add(1, Relaxed);
            let reply = self.execute(name, arguments).unwrap_or_else(Reply::Error);
            self.replies.send(&reply)?;
            if name.eq_ignore_ascii_case(b"QUIT") {
                return Err(HangUp.into());
            }
        }
        Ok(())
    }

    /// The client is told before the connection ends, or goes on after a request that is too long.
    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        let mistake = match error {
            FrameError::Broken(mistake) | FrameError::Malformed(mistake) => mistake.to_string(),
            error => error.to_string(),
        };
        Ok(self.replies.send(&Reply::Error(format!("ERR Protocol error: {mistake}")))?)
    }
}

impl Session {
    /// The reply, or the text of an error.
    fn execute(&self, name: &[u8], arguments: &[&[u8]]) -> Result<Reply, String> {
        let keys = || self.kv.store.keys();
        Ok(match (&name.to_ascii_uppercase()[..], arguments) {
            (b"GET", [key]) => keys().get(key).map_or(Reply::Nil, Reply::Bulk),
            (b"SET", [key, value]) => {
                keys().set(key, value);
                Reply::Status("OK")
            }
            (b"SET", [_, _, ..]) => return Err("ERR syntax error".into()),
            (b"DEL", [_, ..]) => {
                let mut keys = keys();
                Reply::Integer(arguments.iter().filter(|key| keys.delete(key)).count() as i64)
            }
            (b"INCR", [key]) => Reply::Integer(keys().increment(key)?),
            (b"EXPIRE", [key, seconds]) => {
                // A time in the past is now.
                let after = Duration::from_secs(integer(seconds)?.try_into().unwrap_or(0));
                let is_there = keys().expire(key, after).ok_or("ERR invalid expire time in 'expire' command")?;
                Reply::Integer(is_there.into())
            }
            (b"EXPIRE", [_, _, option, ..]) => return Err(format!("ERR Unsupported option {}", text(option))),
            (b"QUIT", _) => Reply::Status("OK"),
            (b"PING", []) => Reply::Status("PONG"),
            (b"PING", [message]) => Reply::bulk(message),
            (b"INFO", _) => Reply::bulk(self.info()),
            // What clients ask for when they connect.
            (b"COMMAND", _) => Reply::Array(Vec::new()),
            (b"CONFIG", [get, parameters @ ..]) if get.eq_ignore_ascii_case(b"GET") => configuration(parameters),
            (b"CLIENT", [set, ..]) if matches!(&set.to_ascii_uppercase()[..], b"SETNAME" | b"SETINFO") => {
                Reply::Status("OK")
            }
            (b"HELLO", [] | [b"2", ..]) => self.hello(),
            (b"HELLO", _) => return Err("NOPROTO unsupported protocol version".into()),
            (b"CONFIG" | b"CLIENT", [subcommand, ..]) => {
                return Err(format!("ERR unknown subcommand '{}'.", text(subcommand)));
            }
            (b"GET" | b"SET" | b"DEL" | b"INCR" | b"EXPIRE" | b"PING" | b"CONFIG" | b"CLIENT", _) => {
                let name = text(name).to_ascii_lowercase();
                return Err(format!("ERR wrong number of arguments for '{name}' command"));
            }
            _ => {
                let arguments: String = arguments.iter().map(|argument| format!("'{}' ", text(argument))).collect();
                return Err(format!("ERR unknown command '{}', with args beginning with: {arguments}", text(name)));
            }
        })
    }

    fn info(&self) -> String {
        let (keys, expiring) = {
            let keys = self.kv.store.keys();
            (keys.len(), keys.expiring())
        };
        let stats = self.handle.stats();
        [
            "# Server".into(),
            format!("uptime_in_seconds:{}", self.kv.started.elapsed().as_secs()),
            "# Clients".into(),
            format!("connected_clients:{}", stats.active),
            "# Stats".into(),
            format!("total_connections_received:{}", stats.accepted),
            format!("total_commands_processed:{}", self.kv.commands.load(Relaxed)),
            "# Keyspace".into(),
            format!("db0:keys={keys},expires={expiring}\r\n"),
        ]
        .join("\r\n")
    }

    fn hello(&self) -> Reply {
        let facts = [
            ("server", Reply::bulk("sockserver")),
            ("version", Reply::bulk(env!("CARGO_PKG_VERSION"))),
            ("proto", Reply::Integer(2)),
            ("mode", Reply::bulk("standalone")),
            ("role", Reply::bulk("master")),
            ("modules", Reply::Array(Vec::new())),
        ];
        Reply::Array(facts.into_iter().flat_map(|(name, fact)| [Reply::bulk(name), fact]).collect())
    }
}

/// What redis-benchmark asks for: that nothing is saved.
fn configuration(parameters: &[&[u8]]) -> Reply {
    let known = [("save", ""), ("appendonly", "no")];
    let asked = known
        .into_iter()
        .filter(|(name, _)| parameters.iter().any(|parameter| parameter.eq_ignore_ascii_case(name.as_bytes())));
    Reply::Array(asked.flat_map(|(name, value)| [Reply::bulk(name), Reply::bulk(value)]).collect())
}

/// A word of the client in the text of an error. Redis cuts it off as well.
fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned()
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6379".into());
    let server = Kv { store: Store::default(), commands: AtomicU64::new(0), started: Instant::now() }.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
