//! A chat room: what the members share is in the server struct, and what one says comes to the others by their mailboxes.
//!
//! ```console
//! $ cargo run --example chat
//! listening on 127.0.0.1:9999
//! ```
//!
//! In two terminals:
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! * what is your name?
//! alice
//! * welcome, alice; here are: bob
//! <bob> hello
//! * bob has left
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sockserver::{
    HandlerResult, MailHandler, Mailbox, MessageHandler, Sender, Server, Writer, framing::FrameError, message_handler,
};

#[derive(Default, Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Member,
    limits(connections = 1000),
    timeouts(idle = "1h"),
)]
struct Chat {
    /// By name.
    seats: Mutex<BTreeMap<String, Seat>>,
}

/// How the others reach a member.
struct Seat {
    mailbox: Sender<Arc<str>>,
    /// How many lines its full mailbox has not taken since it was last told so.
    missed: usize,
}

impl Seat {
    /// Sends a line without waiting, so that a member that does not read holds up no other. Such a member misses lines. It is
    /// told how many before it gets the next line.
    fn tell(&mut self, line: &Arc<str>) {
        if self.missed > 0 && self.mailbox.try_send(format!("* you missed {} lines", self.missed).into()).is_ok() {
            self.missed = 0;
        }
        if self.missed > 0 || self.mailbox.try_send(line.clone()).is_err() {
            self.missed += 1;
        }
    }
}

impl Chat {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a member, and returns who is there already. `None`: the name is taken.
    fn join(&self, name: &str, mailbox: Sender<Arc<str>>) -> Option<String> {
        let mut seats = self.seats();
        let others = seats.keys().cloned().collect::<Vec<_>>().join(", ");
        match seats.entry(name.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(Seat { mailbox, missed: 0 });
                Some(others)
            }
        }
    }

    /// Sends a line to all members but one. All see all lines in the same order, because the lock is held meanwhile.
    fn tell_others(&self, name: &str, line: String) {
        let line = line.into();
        for (_, seat) in self.seats().iter_mut().filter(|(member, _)| *member != name) {
            seat.tell(&line);
        }
    }
}

#[message_handler(framing = "line", max_frame = "1KiB", mailbox = 256)]
struct Member {
    wfile: Writer,
    mailbox: Mailbox<Arc<str>>,
    chat: Arc<Chat>,
    #[default]
    name: Option<String>,
}

impl MessageHandler for Member {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        Ok(writeln!(self.wfile, "* what is your name?")?)
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        match &self.name {
            None => self.choose_name(line)?,
            // The others' terminals must not obey a member.
            Some(name) => self.chat.tell_others(name, format!("<{name}> {}", line.replace(char::is_control, "?"))),
        }
        Ok(())
    }

    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        Ok(writeln!(self.wfile, "* nobody has seen that: {error}")?)
    }

    /// However the connection has ended.
    fn finish(&mut self) -> HandlerResult {
        if let Some(name) = self.name.take() {
            self.chat.seats().remove(&name);
            self.chat.tell_others(&name, format!("* {name} has left"));
        }
        Ok(())
    }
}

impl MailHandler for Member {
    type Mail = Arc<str>;

    fn mail(&mut self, line: Arc<str>) -> HandlerResult {
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

impl Member {
    fn choose_name(&mut self, name: &str) -> io::Result<()> {
        if !is_name(name) {
            return writeln!(self.wfile, "* a name has 1 to 20 letters of a to z, digits, `-` and `_`; yours?");
        }
        let Some(others) = self.chat.join(name, self.mailbox.sender()) else {
            return writeln!(self.wfile, "* {name} is here already; your name?");
        };
        self.name = Some(name.to_owned());
        self.chat.tell_others(name, format!("* {name} has joined"));
        writeln!(self.wfile, "* welcome, {name}; here are: {others}")
    }
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = Chat::default().bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
