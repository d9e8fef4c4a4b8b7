//! What `python -m http.server` is: the files of a directory, for a browser. With ranges, so that a film can be wound
//! forward, conditional requests, so that what has not changed is not sent again, and connections that stay open.
//!
//! ```console
//! $ cargo run --features http --example http -- 8000 --directory target/doc
//! listening on 127.0.0.1:8000
//! 127.0.0.1:51966 "GET /sockserver/index.html" 200 37342
//! ```
//!
//! | | |
//! |---|---|
//! | `PORT` or `HOST:PORT` | where it listens: `127.0.0.1:8000` |
//! | `--bind HOST` | `0.0.0.0` for all addresses of this machine, so that others can connect |
//! | `--directory DIR` | what it serves: the current directory |
//! | `--certificate FILE`, `--key FILE` | `https`: a certificate with the chain behind it, and its key, in PEM |
//! | `--quiet` | no line for each request |
//!
//! Symbolic links are followed. A request has a head of 16 KiB at most, and no body. What is unclear about a head ends its
//! connection, so that a proxy in front and this server cannot take different bytes for the next request.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use sockserver::{
    Address, HandlerResult, HangUp, MessageHandler, Server, Writer, framing::FrameError, message_handler,
};

mod files;
mod page;
mod request;
mod response;

use request::{Heads, Request};
use response::Response;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = Session,
    limits(connections = 4096),
    timeouts(idle = "1m", message = "20s", shutdown = "10s"),
)]
struct Site {
    directory: PathBuf,
    is_quiet: bool,
}

#[message_handler(framing = Heads, max_frame = "16KiB", wbufsize = "16KiB")]
struct Session {
    wfile: Writer,
    client: Address,
    site: Arc<Site>,
}

impl MessageHandler for Session {
    type Message = Request<'static>;

    fn message(&mut self, request: Request<'_>) -> HandlerResult {
        let response = files::respond(&self.site.directory, &request);
        self.log(request.method, request.target, &response);
        response.send(&mut self.wfile, &request)?;
        if request.keeps_alive() { Ok(()) } else { Err(HangUp.into()) }
    }

    /// A head that is malformed does not tell where the next one begins.
    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        let (status, why) = match error {
            FrameError::TooLong { limit, .. } => (431, format!("the head is longer than {limit} bytes")),
            FrameError::Malformed(why) | FrameError::Broken(why) => (400, why.to_string()),
            error => (400, error.to_string()),
        };
        let response = Response::error(status, &why);
        self.log("?", "", &response);
        response.send(&mut self.wfile, &Request::bad())?;
        Err(HangUp.into())
    }
}

impl Session {
    fn log(&self, method: &str, target: &str, Response { status, body, .. }: &Response) {
        if !self.site.is_quiet {
            let length = body.length();
            say(&format!("{} \"{method} {}\" {status} {length}", self.client, target.escape_debug()));
        }
    }
}

/// Prints a line. It is no error if the other end of the pipe is closed.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

const USAGE: &str = "\
Serves the files of a directory by HTTP.

http [PORT | HOST:PORT] [--bind HOST] [--directory DIR] [--certificate FILE --key FILE] [--quiet]
";

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut words: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let mut site = Site { directory: ".".into(), is_quiet: false };
    let mut options = Site::OPTIONS;
    let (mut host, mut port) = ("127.0.0.1".to_owned(), "8000".to_owned());
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} takes a value"));
        match &*word {
            "--bind" => host = value()?,
            "--directory" => site.directory = value()?.into(),
            "--certificate" => options.tls.certificate = Some(value()?.leak()),
            "--key" => options.tls.key = Some(value()?.leak()),
            "--quiet" => site.is_quiet = true,
            "--help" => {
                say(USAGE.trim_end());
                return Ok(());
            }
            word if word.starts_with('-') => return Err(format!("{word} is not understood\n\n{USAGE}").into()),
            address => match address.rsplit_once(':') {
                Some((before, after)) => (host, port) = (before.trim_matches(['[', ']']).to_owned(), after.to_owned()),
                None => port = address.to_owned(),
            },
        }
    }
    let port: u16 = port.parse().map_err(|_| format!("{port} is no port: it is a number up to 65535"))?;
    // Else each request would find out.
    fs::read_dir(&site.directory).map_err(|error| format!("{}: {error}", site.directory.display()))?;
    let server = site.bind_with((host, port), options)?;
    server.shutdown_on_signals()?;
    say(&format!("listening on {}", server.server_address()));
    Ok(server.serve_forever()?)
}
