//! A mail server for tests: it takes every mail, delivers none, and prints them. It speaks STARTTLS.
//!
//! ```console
//! $ cargo run --features tls --example smtp_sink -- 127.0.0.1:2525
//! listening on 127.0.0.1:2525
//! ```
//!
//! ```console
//! $ swaks --server 127.0.0.1:2525 --tls --from alice@example.org --to bob@example.org
//! ```
//!
//! Then it prints a line for the mail, and the mail with each line behind `| `:
//!
//! ```text
//! mail from alice@example.org to bob@example.org, 4 lines over TLSv1.3
//! | Date: Thu, 26 Nov 2026 12:00:00 +0000
//! ```
//!
//! Its certificate is for `localhost`, and made anew each time.

use std::{
    env, fmt,
    io::{self, Write},
};

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Stream, Tls, Writer, request_handler};

/// A longer mail is refused: RFC 1870 tells the client before.
const MAX_SIZE: usize = 10 << 20;

const MAX_RECIPIENTS: usize = 100;

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    limits(connections = 100),
    timeouts(idle = "5m"),
    tls(start = "handler"),
    hooks(tls = Self::certificate),
)]
struct Sink {
    tls: Tls,
}

impl Sink {
    fn certificate(&self) -> io::Result<Tls> {
        Ok(self.tls.clone())
    }
}

#[request_handler]
struct Session {
    request: Stream,
    rfile: Reader,
    wfile: Writer,
    #[default]
    envelope: Envelope,
}

/// Whom a mail is from and to.
#[derive(Default)]
struct Envelope {
    sender: Option<String>,
    recipients: Vec<String>,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        self.reply("220 localhost takes every mail, and delivers none")?;
        while let Some(line) = self.rfile.next_line_bytes()? {
            let line = String::from_utf8_lossy(&line).into_owned();
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.greet()?,
                "HELO" => self.reply("250 localhost")?,
                "STARTTLS" if self.request.tls_info().is_some() => self.reply("503 5.5.1 TLS has begun already")?,
                "STARTTLS" => {
                    self.reply("220 2.0.0 begin")?;
                    self.rfile.start_tls()?;
                    // An attacker on the way can have said what came before.
                    self.envelope = Envelope::default();
                }
                "MAIL" => self.mail_from(argument)?,
                "RCPT" => self.recipient(argument)?,
                "DATA" => self.data()?,
                "RSET" => {
                    self.envelope = Envelope::default();
                    self.reply("250 2.0.0 forgotten")?;
                }
                "NOOP" => self.reply("250 2.0.0 nothing is done")?,
                "QUIT" => return Ok(self.reply("221 2.0.0 goodbye")?),
                _ => self.reply("500 5.5.1 that is no command of this server")?,
            }
        }
        Ok(())
    }

    fn closing(&mut self, _why: sockserver::Closing) -> HandlerResult {
        Ok(self.reply("421 4.3.2 the server ends")?)
    }
}

impl Session {
    fn reply(&mut self, line: impl fmt::Display) -> io::Result<()> {
        write!(self.wfile, "{line}\r\n")
    }

    fn greet(&mut self) -> io::Result<()> {
        self.reply("250-localhost")?;
        self.reply(format_args!("250-SIZE {MAX_SIZE}"))?;
        if self.request.tls_info().is_none() {
            self.reply("250-STARTTLS")?;
        }
        self.reply("250-8BITMIME")?;
        self.reply("250 PIPELINING")
    }

    fn mail_from(&mut self, argument: &str) -> io::Result<()> {
        let Some(sender) = path(argument, "FROM:") else { return self.reply("501 5.5.4 MAIL FROM:<address>") };
        self.envelope = Envelope { sender: Some(sender), recipients: Vec::new() };
        self.reply("250 2.1.0 go on")
    }

    fn recipient(&mut self, argument: &str) -> io::Result<()> {
        let Some(recipient) = path(argument, "TO:") else { return self.reply("501 5.5.4 RCPT TO:<address>") };
        if self.envelope.sender.is_none() {
            return self.reply("503 5.5.1 MAIL comes first");
        }
        if self.envelope.recipients.len() == MAX_RECIPIENTS {
            return self.reply("452 4.5.3 these are enough for one mail");
        }
        self.envelope.recipients.push(recipient);
        self.reply("250 2.1.5 go on")
    }

    fn data(&mut self) -> io::Result<()> {
        if self.envelope.recipients.is_empty() {
            return self.reply("503 5.5.1 MAIL and RCPT come first");
        }
        self.reply("354 end with a line that is a dot")?;
        let (mut mail, mut size) = (Vec::new(), 0);
        loop {
            let Some(line) = self.rfile.next_line_bytes()? else { return Ok(()) };
            if line == b"." {
                break;
            }
            // RFC 5321, 4.5.2: the client doubles a dot at the beginning.
            let line = line.strip_prefix(b".").unwrap_or(&line);
            size += line.len() + 2;
            // The rest is read, and thrown away.
            if size <= MAX_SIZE {
                mail.push(String::from_utf8_lossy(line).into_owned());
            }
        }
        let Envelope { sender, recipients } = std::mem::take(&mut self.envelope);
        if size > MAX_SIZE {
            return self.reply("552 5.3.4 that mail is too large");
        }
        let how = self.request.tls_info().map_or("in plain text".to_owned(), |tls| format!("over {}", tls.version));
        let (sender, recipients) = (sender.unwrap_or_default(), recipients.join(", "));
        // In one piece, as other sessions print as well. Nobody may read it.
        let mut printed = format!("mail from {sender} to {recipients}, {} lines {how}\n", mail.len());
        // The terminal must not obey a mail.
        mail.iter().for_each(|line| printed += &format!("| {}\n", line.replace(char::is_control, "?")));
        let _ = io::stdout().write_all(printed.as_bytes());
        self.reply("250 2.0.0 it is here")
    }
}

/// The address in `FROM:<address> …`.
fn path(argument: &str, word: &str) -> Option<String> {
    let rest = argument.get(word.len()..).filter(|_| argument[..word.len()].eq_ignore_ascii_case(word))?;
    let (address, _) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    Some(address.replace(char::is_control, "?"))
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2525".into());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let tls = Tls::pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    let server = Sink { tls }.bind(address)?;
    server.shutdown_on_signals()?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
