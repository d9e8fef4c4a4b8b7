//! The servers of the tests that are processes of their own: `server ROLE ARGUMENT… ADDRESS`. Each module is a role, and
//! says what its arguments are. A server says first where it listens.

mod event_log;
mod failures;
mod farewell;
mod fleet;
mod http;
mod last_word;
mod lines;
mod messages;
mod obedient;
mod options;
mod place;
mod relay;
mod several;
mod signalled;
mod tls;
mod together;

use std::{
    env,
    error::Error,
    os::unix::process::parent_id,
    process::{self, Command},
    sync::OnceLock,
};

use sockserver::ServerHandle;

type Ended = Result<(), Box<dyn Error>>;

fn main() -> Ended {
    if env::var_os(HAS_PREDECESSOR).is_none() {
        PARENT.get_or_init(parent_id);
    }
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (role, arguments) = arguments.split_first().ok_or("server ROLE ARGUMENT… ADDRESS")?;
    match role.as_str() {
        "event_log" => event_log::serve(arguments),
        "failures" => failures::serve(arguments),
        "farewell" => farewell::serve(arguments),
        "fleet" => fleet::serve(arguments),
        "http" => http::serve(arguments),
        "last_word" => last_word::serve(arguments),
        "lines" => lines::serve(arguments),
        "messages" => messages::serve(arguments),
        "obedient" => obedient::serve(arguments),
        "relay" => relay::serve(arguments),
        "several" => several::serve(arguments),
        "signalled" => signalled::serve(arguments),
        "tls" => tls::serve(arguments),
        "together" => together::serve(arguments),
        _ => Err(format!("there is no role {role}").into()),
    }
}

/// The test. Empty in a server that a predecessor has started: the test ends it itself.
static PARENT: OnceLock<u32> = OnceLock::new();

/// In the environment of a server that a predecessor has started.
const HAS_PREDECESSOR: &str = "HAS_PREDECESSOR";

/// Starts this program, or that of `SUCCESSOR`, in place of these servers, and says how that went.
fn hand_over<'a>(servers: impl IntoIterator<Item = &'a ServerHandle>) {
    let mut arguments = env::args_os();
    let program = arguments.next();
    let mut successor = Command::new(env::var_os("SUCCESSOR").or(program).expect("the path of this program"));
    successor.args(arguments).env(HAS_PREDECESSOR, "");
    match ServerHandle::hand_over_all(servers, &mut successor) {
        Ok(successor) => println!("handed over to {}", successor.id()),
        Err(error) => println!("not handed over: {error}"),
    }
}

/// A test that was killed leaves no server behind: for `service_actions`.
fn follow_parent() {
    if PARENT.get().is_some_and(|parent| *parent != parent_id()) {
        process::exit(1);
    }
}
