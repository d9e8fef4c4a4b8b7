//! Several event loops of one server.

use std::{
    io::Write,
    sync::{Arc, Barrier},
};

use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};
use sockserver_tests::{
    client::{Client, eventually},
    served::Served,
};

/// Two loops and no other thread: while a handler waits, so does its loop.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = Visitor,
    workers = 2,
    limits(threads = 2),
    timeouts(shutdown = "1s")
)]
struct Meeting {
    barrier: Barrier,
}

#[message_handler(framing = "line")]
struct Visitor {
    wfile: Writer,
    server: Arc<Meeting>,
}

impl MessageHandler for Visitor {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        if line == "meet" {
            self.server.barrier.wait();
        }
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

fn serve() -> Served {
    Served::new(Meeting { barrier: Barrier::new(2) }.bind("127.0.0.1:0").expect("a free port"))
}

fn connect(server: &Served) -> Client {
    let mut client = Client::connect(server.server_address());
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
    client
}

/// Both are answered only if they are on two loops.
#[track_caller]
fn meet(clients: [&mut Client; 2]) {
    let clients = clients.map(|client| {
        client.send("meet\n");
        client
    });
    clients.into_iter().for_each(|client| assert_eq!(client.line(), "meet"));
}

#[test]
fn handlers_of_two_loops_run_at_once() {
    let server = serve();
    let (mut first, mut second) = (connect(&server), connect(&server));
    (0..100).for_each(|_| meet([&mut first, &mut second]));
}

#[test]
fn a_connection_is_given_to_the_loop_that_has_the_fewest() {
    let server = serve();
    let mut clients: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    // The first and the third are on one loop.
    drop(clients.remove(2));
    drop(clients.remove(0));
    eventually("two are left", || server.stats().active == 2);
    let mut new = [connect(&server), connect(&server)];
    for old in &mut clients {
        new.iter_mut().for_each(|new| meet([old, new]));
    }
}
