//! How a loop is handed over while a handler is slow, run through its interleavings by `shuttle`. The files are those of
//! `sockserver/src/concurrency/event_loop`; in place of sockets and handlers there are counters.
//!
//! Every lend may be slow here: the monitor takes a loop at its second look, however long that lend has lasted.

#![allow(dead_code, unused_imports, reason = "the files are compiled without those that use the rest of them")]

use std::{collections::VecDeque, io};

use event_loop::hand_over::{HandOver, Next, Place, Record, Work};
use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

#[path = "../../sockserver/src/primitives.rs"]
mod primitives;

#[path = "../../sockserver/src/concurrency/event_loop"]
mod event_loop {
    mod crew;
    pub(crate) mod hand_over;
    mod inbox;
    mod lending;
    mod monitor;
}

#[path = "../../sockserver/src/sys"]
mod sys {
    mod thread;
    pub(crate) use thread::ThreadView;
}

/// How many schedules each test runs through.
const SCHEDULES: usize = 3000;

/// Explores schedules with the scheduler that finds bugs of few switches, and with the one that is fair.
fn explore(run: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(run.clone(), SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, 3);
}

/// Connections that only count.
struct Counting {
    connections: Vec<Counts>,
    /// By the number of the loop.
    wakes: Vec<AtomicBool>,
    /// Calls of `start_thread` that fail, one after the other.
    failing_starts: Mutex<VecDeque<bool>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    /// Messages that the client has sent on its socket, and that the loop has not received.
    on_socket: AtomicUsize,
    /// A thread handles a message of this connection.
    is_busy: AtomicBool,
    handled: AtomicUsize,
    expected: usize,
    /// Its handlers wait until this connection has handled all its messages.
    waits_for: Option<usize>,
}

/// The connections of one loop, by their number.
struct Connections {
    number: usize,
    here: Vec<Slot>,
    ready: VecDeque<usize>,
    open: usize,
}

/// A connection, and the messages that have come while it was away.
#[derive(Default)]
struct Slot {
    turn: Option<Turn>,
    pending: usize,
}

struct Turn {
    connection: usize,
    messages: usize,
    record: Record,
}

impl Work for Counting {
    type Loop = Connections;
    type Turn = Turn;
    type Notice = usize;

    fn next(&self, of: &mut Connections) -> Next<Turn> {
        for connection in (of.number..self.connections.len()).step_by(self.wakes.len()) {
            for _ in 0..self.connections[connection].on_socket.swap(0, SeqCst) {
                self.notice(of, connection);
            }
        }
        while let Some(connection) = of.ready.pop_front() {
            if let Some(turn) = of.here[connection].turn.take_if(|turn| turn.messages > 0) {
                return Next::Turn(turn);
            }
        }
        if of.open == 0 { Next::End } else { Next::Wait }
    }

    fn wait(&self, of: &mut Connections) {
        let own = || self.connections.iter().skip(of.number).step_by(self.wakes.len());
        while !self.wakes[of.number].swap(false, SeqCst) && own().all(|counts| counts.on_socket.load(SeqCst) == 0) {
            thread::yield_now();
        }
    }

    fn wake(&self, number: usize) {
        self.wakes[number].store(true, SeqCst);
    }

    fn run(&self, turn: &mut Turn, place: Place<'_, Counting>) {
        let counts = &self.connections[turn.connection];
        assert!(!counts.is_busy.swap(true, SeqCst), "two threads handle messages of one connection");
        turn.messages -= 1;
        if let Some(other) = counts.waits_for {
            while self.connections[other].handled.load(SeqCst) < self.connections[other].expected {
                thread::yield_now();
            }
        }
        thread::yield_now();
        let _ = place.is_off_the_loop();
        turn.record.note_message();
        counts.handled.fetch_add(1, SeqCst);
        counts.is_busy.store(false, SeqCst);
    }

    fn settle(&self, of: &mut Connections, mut turn: Turn) {
        let slot = &mut of.here[turn.connection];
        turn.messages += std::mem::take(&mut slot.pending);
        let Counts { handled, expected, .. } = &self.connections[turn.connection];
        if turn.messages > 0 {
            of.ready.push_back(turn.connection);
        } else if handled.load(SeqCst) == *expected {
            of.open -= 1;
        }
        slot.turn = Some(turn);
    }

    fn notice(&self, of: &mut Connections, connection: usize) {
        match &mut of.here[connection] {
            Slot { turn: Some(turn), .. } => {
                turn.messages += 1;
                of.ready.push_back(connection);
            }
            Slot { turn: None, pending } => *pending += 1,
        }
    }

    fn record(turn: &mut Turn) -> Option<&mut Record> {
        Some(&mut turn.record)
    }

    fn start_thread(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        if self.failing_starts.lock().expect("no panic").pop_front().unwrap_or(false) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.threads.lock().expect("no panic").push(thread::spawn(work));
        Ok(())
    }
}

/// A server of so many loops and threads, whose clients each send their messages on a thread of their own.
#[derive(Clone)]
struct Scene {
    loops: usize,
    threads: usize,
    /// For each connection how many messages it sends, and for which other one its handlers wait.
    connections: Vec<(usize, Option<usize>)>,
    /// Which starts of threads fail.
    failing_starts: Vec<bool>,
    /// How the messages come.
    way: Way,
    /// The client of the first one sends when the second one has handled all its messages.
    comes_after: Option<(usize, usize)>,
}

#[derive(Clone, Copy)]
enum Way {
    /// On a socket, which ends the wait of a loop that sleeps.
    Socket,
    /// Through the inbox, as mail of other handlers does.
    Inbox,
}

impl Scene {
    fn of(threads: usize, connections: &[(usize, Option<usize>)]) -> Scene {
        Scene {
            loops: 1,
            threads,
            connections: connections.to_vec(),
            failing_starts: Vec::new(),
            way: Way::Socket,
            comes_after: None,
        }
    }

    fn explore(self) {
        for way in [Way::Socket, Way::Inbox] {
            let scene = Scene { way, ..self.clone() };
            explore(move || scene.run());
        }
    }

    fn run(&self) {
        let counts =
            |&(expected, waits_for): &(usize, Option<usize>)| Counts { expected, waits_for, ..Counts::default() };
        let work = Counting {
            connections: self.connections.iter().map(counts).collect(),
            wakes: (0..self.loops).map(|_| AtomicBool::new(false)).collect(),
            failing_starts: Mutex::new(self.failing_starts.iter().copied().collect()),
            threads: Mutex::default(),
        };
        let hand_over = HandOver::new(work, self.loops, self.threads);
        let connections = self.connections.len();
        let loop_of = |connection: usize, loops: usize| connection % loops;
        let mut loops: Vec<_> = (0..self.loops)
            .map(|number| Connections {
                number,
                here: (0..connections).map(|_| Slot::default()).collect(),
                ready: VecDeque::new(),
                open: 0,
            })
            .collect();
        for connection in 0..connections {
            let of = &mut loops[loop_of(connection, self.loops)];
            of.open += usize::from(self.connections[connection].0 > 0);
            of.here[connection].turn = Some(Turn { connection, messages: 0, record: Record::default() });
        }
        let mut loops = loops.into_iter();
        let started = hand_over.start(loops.next().expect("a loop"), loops);
        let clients: Vec<_> = (0..connections)
            .map(|connection| {
                let (hand_over, loops, way) = (hand_over.clone(), self.loops, self.way);
                let messages = self.connections[connection].0;
                let comes_after = self.comes_after.filter(|(own, _)| *own == connection).map(|(_, other)| other);
                thread::spawn(move || {
                    let has_to_wait = |other: usize| {
                        let counts = &hand_over.work().connections[other];
                        counts.handled.load(SeqCst) < counts.expected
                    };
                    while comes_after.is_some_and(has_to_wait) {
                        thread::yield_now();
                    }
                    for _ in 0..messages {
                        match way {
                            Way::Inbox => hand_over.notify(loop_of(connection, loops), connection),
                            Way::Socket => {
                                hand_over.work().connections[connection].on_socket.fetch_add(1, SeqCst);
                            }
                        }
                    }
                })
            })
            .collect();
        if started.is_err() {
            hand_over.join();
        }
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        let work = hand_over.work();
        // Each thread ends, and those that it has started before.
        let mut started = 0;
        while let Some(thread) = { work.threads.lock().expect("no panic").pop() } {
            thread.join().expect("no panic");
            started += 1;
        }
        for counts in &work.connections {
            assert_eq!(counts.handled.load(SeqCst), counts.expected);
        }
        // A spare thread stays until the end, as no time passes.
        assert!(started <= self.threads, "{started} threads were started");
    }
}

#[test]
fn a_loop_goes_on_while_a_handler_is_slow() {
    Scene::of(8, &[(1, Some(1)), (1, None)]).explore();
}

#[test]
fn several_handlers_may_be_slow_at_once() {
    Scene::of(8, &[(1, Some(3)), (2, Some(3)), (1, Some(3)), (2, None)]).explore();
}

#[test]
fn all_messages_are_handled_by_one_thread_at_a_time() {
    Scene::of(8, &[(3, None), (2, None), (2, None)]).explore();
}

#[test]
fn there_are_no_more_threads_than_the_limit() {
    (1..6).for_each(|threads| Scene::of(threads, &[(2, None), (2, None)]).explore());
}

#[test]
fn with_two_threads_one_handler_may_be_slow() {
    Scene::of(2, &[(1, Some(1)), (1, None)]).explore();
}

#[test]
fn threads_that_cannot_be_started_are_done_without() {
    for failing in 0..4 {
        let failing_starts = (0..4).map(|start| start == failing).collect();
        Scene { failing_starts, ..Scene::of(8, &[(2, None), (2, None)]) }.explore();
    }
}

#[test]
fn the_calling_thread_drives_a_loop_whose_thread_cannot_be_started() {
    Scene { failing_starts: vec![true], ..Scene::of(8, &[(1, Some(1)), (1, None)]) }.explore();
}

#[test]
fn two_loops_share_their_threads() {
    Scene { loops: 2, ..Scene::of(9, &[(2, Some(3)), (1, None), (1, None), (2, None)]) }.explore();
}

#[test]
fn a_loop_whose_thread_cannot_be_started_is_done_without() {
    // Nobody sends anything to it.
    let failing_starts = vec![false, true];
    Scene { loops: 2, failing_starts, ..Scene::of(9, &[(2, None), (0, None)]) }.explore();
}

#[test]
fn a_slow_handler_of_the_second_loop_holds_up_nobody() {
    // The first loop ends before that, or sleeps meanwhile.
    for comes_after in [None, Some((0, 3))] {
        let connections = [(1, None), (1, Some(3)), (0, None), (1, None)];
        Scene { loops: 2, comes_after, ..Scene::of(9, &connections) }.explore();
    }
}
