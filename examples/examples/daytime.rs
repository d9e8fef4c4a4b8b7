//! The time of day, without being asked: a handler that reads nothing has no `Reader` (RFC 867).
//!
//! ```console
//! $ cargo run --example daytime
//! listening on 127.0.0.1:9999
//! ```
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! 2038-01-19 03:14:08 UTC
//! ```
//!
//! With `transport = "udp"` any packet is answered with the time, as that RFC wants it too: `echo | nc -u 127.0.0.1
//! 9999`.

use std::{
    env,
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Daytime {
    wfile: Writer,
}

impl RequestHandler for Daytime {
    fn handle(&mut self) -> HandlerResult {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        writeln!(self.wfile, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")?;
        Ok(())
    }
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from March of the year 0, a leap day is the last of its year, and 400 years are always as long.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * era + year + u64::from(month <= 2), month, day)
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = DaytimeServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
