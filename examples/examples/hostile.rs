//! Judges any server: clients that mean harm, one kind after the other, and honest ones beside them, which must be served
//! in time. When the attackers have left, the server's threads, descriptors and memory must come back.
//!
//! ```console
//! $ cargo run --example hostile -- 127.0.0.1:9999
//! an honest client says "hello\n" and gets "HELL…"
//! | attack | attackers | left at the end | honest clients | slowest | memory | |
//! |---|--:|--:|--:|--:|--:|---|
//! | silent | 64 | 64 | 38 of 38 | 1.2 ms | +0.3 MiB | good |
//! …
//! ```
//!
//! It finds out by itself whether the server talks HTTP or Redis's protocol, or answers a line; `--say TEXT` says something
//! else, where `\r` and `\n` stand for line ends. `--clients N` and `--seconds N` change how many attackers there are, and
//! how long each attack takes. With `sudo` it sees the processes of other users. The status is 1 if the server has not held
//! out.
//!
//! Attack only servers that are yours.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::Duration,
};

use sockserver::{
    Address,
    testing::hostile::{Attack, Plan},
};

/// How much of an answer must be the same each time: a server may go on with the time, or with a number.
const ANSWER: usize = 4;

fn main() -> ExitCode {
    match judge(env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the server has held out.
fn judge(mut words: impl Iterator<Item = String>) -> Result<bool, Box<dyn Error>> {
    let server = words.next().ok_or("usage: hostile HOST:PORT [--say TEXT] [--clients N] [--seconds N]")?;
    let mut addresses = server.to_socket_addrs().map_err(|error| format!("{server}: {error}"))?;
    let address: Address = addresses.next().ok_or("the host has no address")?.into();
    let mut plan = Plan::new(&address);
    let mut say = None;
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} takes a value"))?;
        match &*word {
            "--say" => say = Some(value.replace("\\r", "\r").replace("\\n", "\n")),
            "--clients" => {
                let clients = value.parse().map_err(|_| format!("--clients is a whole number, not {value}"))?;
                plan = plan.clients(clients);
            }
            "--seconds" => {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                plan = plan.duration(seconds.ok_or(format!("--seconds is a number of seconds, not {value}"))?);
            }
            _ => return Err(format!("{word} is not understood").into()),
        }
    }
    let requests = match say {
        Some(request) => vec![(request, "")],
        None => vec![
            (format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"), "HTTP"),
            ("PING\r\n".to_owned(), "+PONG"),
            ("hello\n".to_owned(), ""),
        ],
    };
    let exchange = requests.iter().find_map(|(request, beginning)| {
        let answer = answer(&address, request).ok()?;
        (!answer.is_empty() && answer.starts_with(&beginning.as_bytes()[..beginning.len().min(ANSWER)]))
            .then_some((request, answer))
    });
    match exchange {
        Some((request, answer)) => {
            say_line(format!("an honest client says {request:?} and gets \"{}…\"", answer.escape_ascii()));
            plan = plan.honest(request.as_str(), answer);
        }
        None => say_line("it answers nothing: an honest client only connects (`--say TEXT` says something)".to_owned()),
    }
    plan = match plan.clone().find_processes() {
        Ok(found) => found,
        Err(error) => {
            say_line(format!("its threads, descriptors and memory are not judged: {error}"));
            plan
        }
    };
    let report = plan.attack(Attack::ALL);
    say_line(report.to_string());
    Ok(report.is_good())
}

/// The first bytes that the server answers.
fn answer(server: &Address, request: &str) -> io::Result<Vec<u8>> {
    let mut client = TcpStream::connect(server)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    client.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // It may be shorter, and then nothing may follow.
    let _ = client.take(ANSWER as u64).read_to_end(&mut answer);
    Ok(answer)
}

/// Prints a line. It is no error if the other end of the pipe is closed.
fn say_line(line: String) {
    let _ = writeln!(io::stdout(), "{line}");
}
