//! What one member of many says reaches all that read, whatever the others do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use sockserver::{
    FrameWriter, HandlerResult, MailHandler, Mailbox, MessageHandler, SendError, Sender, Server, framing::Line,
    message_handler,
};
use sockserver_tests::{
    client::{Client, eventually},
    served::Served,
};

#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Member, limits(connections = 2_000))]
struct Radio {
    members: Mutex<Vec<Sender<Arc<str>>>>,
    /// How many lines a full mailbox has not taken.
    lost: Arc<AtomicUsize>,
}

impl Radio {
    fn send(&self, line: &str) {
        let line: Arc<str> = line.into();
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| match member.try_send(line.clone()) {
            Ok(()) => true,
            Err(SendError::Full(_)) => {
                self.lost.fetch_add(1, SeqCst);
                true
            }
            Err(SendError::Closed(_)) => false,
        });
    }
}

#[message_handler(framing = "line", mailbox = 256)]
struct Member {
    lines: FrameWriter<Line>,
    mailbox: Mailbox<Arc<str>>,
    radio: Arc<Radio>,
}

impl MessageHandler for Member {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.radio.members.lock().unwrap_or_else(PoisonError::into_inner).push(self.mailbox.sender());
        Ok(self.lines.send("welcome")?)
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        self.radio.send(line);
        Ok(())
    }
}

impl MailHandler for Member {
    type Mail = Arc<str>;

    fn mail(&mut self, line: Arc<str>) -> HandlerResult {
        Ok(self.lines.send(&line[..])?)
    }
}

#[test]
fn a_thousand_members_miss_nothing_beside_one_that_never_reads() {
    /// Fewer than a mailbox holds, so that no member that reads can miss one, however busy the machine is.
    const LINES: usize = 200;
    const MEMBERS: usize = 1_000;

    // A connection has two descriptors here, and a mailbox two.
    rlimit::increase_nofile_limit(8_000).expect("the limit can be read");
    let radio = Radio::default();
    let lost = radio.lost.clone();
    let server = Served::new(radio.bind("127.0.0.1:0").expect("a free port"));
    let join = || {
        let mut member = Client::connect(server.server_address());
        assert_eq!(member.line(), "welcome");
        member
    };

    let stuck = join();
    let mut sender = join();
    let long = "x".repeat(60_000);
    eventually("the connection of the stuck member and its mailbox are full", || {
        // Its own mailbox is empty each time.
        assert_eq!(sender.ask(&long), long);
        lost.load(SeqCst) > 10
    });
    let lost_before = lost.load(SeqCst);

    let mut members: Vec<Client> = (1..MEMBERS).map(|_| join()).collect();
    for number in 0..LINES {
        sender.send(format!("{number}\n"));
        // A hundred lines a second.
        thread::sleep(Duration::from_millis(10));
    }
    members.push(sender);
    for member in &mut members {
        for number in 0..LINES {
            assert_eq!(member.line(), number.to_string());
        }
    }
    assert!(lost.load(SeqCst) > lost_before, "the stuck member is still stuck");
    drop(stuck);
}
