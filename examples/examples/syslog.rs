//! Collects what programs log to a socket like `/dev/log`, and prints it with its facility and severity in words.
//!
//! Each packet is one message, so the handler takes the `Datagram` itself, and sends nothing back.
//!
//! ```console
//! $ cargo run --example syslog
//! listening on /tmp/syslog.sock
//! user.notice Jan 19 03:14:08 me: hello
//! ```
//!
//! ```console
//! $ logger -u /tmp/syslog.sock hello
//! ```
//!
//! Ctrl-C ends it and removes the socket file. With `transport = "udp"` and the argument `127.0.0.1:5140` it collects
//! from the network: `logger -n 127.0.0.1 -P 5140 -d hello`.

use std::{
    env,
    io::{self, Write},
};

use sockserver::{Datagram, HandlerResult, RequestHandler, Server, request_handler};

// One at a time, so that messages are printed in the order in which they come.
#[request_handler]
#[server(transport = "unix_datagram", concurrency = "sync", socket(max_packet_size = "8KiB"))]
struct Syslog {
    packet: Datagram,
}

impl RequestHandler for Syslog {
    fn handle(&mut self) -> HandlerResult {
        let message = String::from_utf8_lossy(self.packet.payload());
        let (facility, severity, text) = parse(&message).unwrap_or(("user", "notice", &message));
        // A message is not to forge another one, nor to steer the terminal.
        let text = text.trim_end_matches(['\n', '\0']).replace(char::is_control, "?");
        let cut = if self.packet.is_truncated() { " (cut)" } else { "" };
        writeln!(io::stdout(), "{facility}.{severity} {text}{cut}")?;
        Ok(())
    }
}

/// `<PRI>` and the text (RFC 3164); `None` without a valid PRI.
fn parse(message: &str) -> Option<(&'static str, &'static str, &str)> {
    let (priority, text) = message.strip_prefix('<')?.split_once('>')?;
    if !(1..=3).contains(&priority.len()) || !priority.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let priority: usize = priority.parse().ok()?;
    Some((FACILITIES.get(priority / 8)?, SEVERITIES[priority % 8], text))
}

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "/tmp/syslog.sock".into());
    let server = SyslogServer.bind(address)?;
    server.shutdown_on_signals()?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
