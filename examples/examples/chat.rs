//! A chat room: what the connections share is in the server struct, which every handler has as an `Arc`.
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
    net::Shutdown,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Stream, Writer, request_handler};

/// How long the others wait for a member that does not read: one that is a whole socket buffer behind is cut off.
const PATIENCE: Duration = Duration::from_millis(10);

#[derive(Default, Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Session,
    limits(connections = 500),
    timeouts(idle = "1h"),
)]
struct Chat {
    /// By name, a handle on each member's connection.
    members: Mutex<BTreeMap<String, Stream>>,
}

impl Chat {
    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Stream>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a member, and returns who is there already. `None`: the name is taken.
    fn join(&self, name: &str, connection: &Stream) -> Option<String> {
        let mut members = self.members();
        let others = members.keys().cloned().collect::<Vec<_>>().join(", ");
        match members.entry(name.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(connection.clone());
                Some(others)
            }
        }
    }

    /// Sends a line to all members but one. All see all lines in the same order, as the lock is held meanwhile.
    fn tell_others(&self, name: &str, line: &str) {
        for (_, mut connection) in self.members().iter().filter(|(member, _)| *member != name) {
            if connection.write_all(format!("{line}\n").as_bytes()).is_err() {
                // The handler of that member sees the end of file, and ends as if the member had left.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

#[request_handler(max_line = "1KiB")]
struct Session {
    rfile: Reader,
    wfile: Writer,
    connection: Stream,
    chat: Arc<Chat>,
    #[default]
    name: Option<String>,
}

impl RequestHandler for Session {
    fn setup(&mut self) -> HandlerResult {
        Ok(self.connection.set_write_timeout(Some(PATIENCE))?)
    }

    fn handle(&mut self) -> HandlerResult {
        let Some(name) = self.ask_name()? else { return Ok(()) };
        self.chat.tell_others(&name, &format!("* {name} has joined"));
        while let Some(line) = self.rfile.next_line()? {
            // A member is not to steer the others' terminals.
            self.chat.tell_others(&name, &format!("<{name}> {}", line.replace(char::is_control, "?")));
        }
        Ok(())
    }

    /// However the session has ended.
    fn finish(&mut self) -> HandlerResult {
        if let Some(name) = self.name.take() {
            self.chat.members().remove(&name);
            self.chat.tell_others(&name, &format!("* {name} has left"));
        }
        Ok(())
    }
}

impl Session {
    /// The name that the member has chosen and got; `None` at the end of file.
    fn ask_name(&mut self) -> io::Result<Option<String>> {
        writeln!(self.wfile, "* what is your name?")?;
        while let Some(name) = self.rfile.next_line()? {
            if !is_name(&name) {
                writeln!(self.wfile, "* a name has 1 to 20 letters of a to z, digits, `-` and `_`; yours?")?;
            } else if let Some(others) = self.chat.join(&name, &self.connection) {
                self.name = Some(name.clone());
                writeln!(self.wfile, "* welcome, {name}; here are: {others}")?;
                return Ok(Some(name));
            } else {
                writeln!(self.wfile, "* {name} is here already; your name?")?;
            }
        }
        Ok(None)
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
