//! How a loop is handed over while a handler is slow, run through its interleavings by `shuttle`. The files are those of
//! `sockserver/src/concurrency/event_loop`; in place of sockets and handlers there are counters.
//!
//! Every lend may be slow here: the monitor takes a loop at its second look, however long that lend has lasted.

#![allow(dead_code, unused_imports, reason = "the files are compiled without those that use the rest of them")]

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, LazyLock, OnceLock, Weak},
    time::{Duration, Instant},
};

use event_loop::{
    hand_over::{self, HandOver, Next, TurnHistory, Work},
    occupancy::Occupancy,
};
use host::{Host, SlotAddress, Turns};
use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

#[path = "../../sockserver/src/primitives.rs"]
mod primitives;

#[path = "../../sockserver/src/io/host.rs"]
mod host;

#[path = "../../sockserver/src/concurrency/event_loop"]
mod event_loop {
    mod loop_threads;
    pub(crate) mod hand_over;
    mod inbox;
    mod lending;
    mod load;
    mod monitor;
    pub(crate) mod occupancy;
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

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Connections that only count.
struct Counting {
    connections: Vec<Counts>,
    /// By the number of the loop.
    wakes: Vec<AtomicBool>,
    occupancies: Vec<Occupancy>,
    hand_over: OnceLock<Weak<HandOver<Counting>>>,
    /// How often a connection was given to another loop.
    moves: Arc<std::sync::atomic::AtomicUsize>,
    /// Calls of `start_thread` that fail, one after the other.
    failing_starts: Mutex<VecDeque<bool>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    /// Messages that the client has sent, and that were not received.
    unread: AtomicUsize,
    /// The socket has become readable, and the loop has not seen it.
    is_ready: AtomicBool,
    /// By which other threads request a turn.
    host: OnceLock<Arc<Host>>,
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
    slots: Vec<Slot>,
    ready: VecDeque<usize>,
    last: Option<usize>,
    shares_with: Option<usize>,
    /// No more connections will be accepted.
    is_over: bool,
}

#[derive(Default)]
struct Slot {
    /// The loop has this connection. It may have a turn.
    is_here: bool,
    turn: Option<Turn>,
    /// Something has come since the last turn began.
    is_wanted: bool,
}

struct Turn {
    connection: usize,
    has_more: bool,
    history: TurnHistory,
}

enum Notice {
    Turn(usize),
    Connection(Turn),
    NoMore,
}

impl Counting {
    fn make_ready(of: &mut Connections, connection: usize) {
        let slot = &mut of.slots[connection];
        slot.is_wanted = true;
        if slot.is_here {
            of.ready.push_back(connection);
        }
    }

    fn welcome(&self, of: &mut Connections, turn: Turn) {
        let connection = turn.connection;
        let address = SlotAddress { of_loop: of.number as u32, slot: connection as u32 };
        self.connections[connection].host.get().expect("a host").set_address(address);
        of.slots[connection] = Slot { is_here: true, turn: Some(turn), is_wanted: false };
        Counting::make_ready(of, connection);
    }

    fn vacate(&self, of: &mut Connections, connection: usize) {
        of.slots[connection].is_here = false;
        self.occupancies[of.number].release();
    }
}

impl Work for Counting {
    type Loop = Connections;
    type Turn = Turn;
    type Notice = Notice;

    fn next(&self, of: &mut Connections) -> Next<Turn> {
        for (connection, counts) in self.connections.iter().enumerate() {
            if of.slots[connection].is_here && counts.is_ready.swap(false, SeqCst) {
                Counting::make_ready(of, connection);
            }
        }
        while let Some(connection) = of.ready.pop_front() {
            let slot = &mut of.slots[connection];
            if let Some(turn) = slot.turn.take() {
                slot.is_wanted = false;
                return Next::Turn(turn);
            }
        }
        let has_none = of.slots.iter().all(|slot| !slot.is_here);
        if of.is_over && has_none && self.occupancies[of.number].end() { Next::End } else { Next::Wait }
    }

    fn wait(&self, of: &mut Connections) {
        let is_ready = |(slot, counts): (&Slot, &Counts)| slot.is_here && counts.is_ready.load(SeqCst);
        while !self.wakes[of.number].swap(false, SeqCst) && !of.slots.iter().zip(&self.connections).any(is_ready) {
            thread::yield_now();
        }
    }

    fn wake(&self, number: usize) {
        self.wakes[number].store(true, SeqCst);
    }

    fn run(&self, turn: &mut Turn, context: hand_over::TurnContext<'_, Counting>) {
        let counts = &self.connections[turn.connection];
        assert!(!counts.is_busy.swap(true, SeqCst), "two threads handle messages of one connection");
        if counts.unread.fetch_update(SeqCst, SeqCst, |unread| unread.checked_sub(1)).is_ok() {
            if let Some(other) = counts.waits_for {
                while self.connections[other].handled.load(SeqCst) < self.connections[other].expected {
                    thread::yield_now();
                }
            }
            thread::yield_now();
            let _ = context.is_off_the_loop();
            turn.history.note_message();
            counts.handled.fetch_add(1, SeqCst);
        }
        turn.has_more = counts.unread.load(SeqCst) > 0;
        counts.is_busy.store(false, SeqCst);
    }

    fn settle(&self, of: &mut Connections, turn: Turn) {
        let (connection, has_more) = (turn.connection, turn.has_more);
        let Counts { handled, expected, .. } = &self.connections[connection];
        if handled.load(SeqCst) == *expected {
            return self.vacate(of, connection);
        }
        let is_one_of_several = of.last.replace(connection) != Some(connection);
        let with = of.shares_with.take_if(|_| is_one_of_several);
        let hand_over = self.hand_over.get().and_then(Weak::upgrade);
        if let (Some(with), Some(hand_over)) = (with, hand_over)
            && self.occupancies[with].reserve()
        {
            self.vacate(of, connection);
            self.moves.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return hand_over.notify(with, Notice::Connection(turn));
        }
        let slot = &mut of.slots[connection];
        slot.turn = Some(turn);
        if has_more || slot.is_wanted {
            Counting::make_ready(of, connection);
        }
    }

    fn notice(&self, of: &mut Connections, notice: Notice) {
        match notice {
            Notice::Turn(connection) => Counting::make_ready(of, connection),
            Notice::Connection(turn) => self.welcome(of, turn),
            Notice::NoMore => of.is_over = true,
        }
    }

    fn share(&self, of: &mut Connections, with: usize) {
        of.shares_with = Some(with);
    }

    fn history(turn: &mut Turn) -> Option<&mut TurnHistory> {
        Some(&mut turn.history)
    }

    fn make_loop(&self, number: usize) -> io::Result<Connections> {
        let slots = self.connections.iter().map(|_| Slot::default()).collect();
        Ok(Connections { number, slots, ready: VecDeque::new(), last: None, shares_with: None, is_over: false })
    }

    fn idle_time(&self) -> Option<Duration> {
        // One is idle all the time.
        Some(EPOCH.elapsed())
    }

    fn report(&self, _: io::Error) {}

    fn start_thread(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        if self.failing_starts.lock().expect("no panic").pop_front().unwrap_or(false) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.threads.lock().expect("no panic").push(thread::spawn(work));
        Ok(())
    }
}

impl Turns for HandOver<Counting> {
    fn request_turn(&self, SlotAddress { of_loop, slot }: SlotAddress) {
        self.notify(of_loop as usize, Notice::Turn(slot as usize));
    }
}

/// A server of so many loops and threads, whose clients each send their messages on a thread of their own.
#[derive(Clone)]
struct Scene {
    loops: usize,
    /// How many loops there may be, when more are started.
    most: usize,
    /// All connections begin on the first loop.
    is_crowded: bool,
    threads: usize,
    /// For each connection how many messages it sends, and for which other one its handlers wait.
    connections: Vec<(usize, Option<usize>)>,
    /// Which starts of threads fail.
    failing_starts: Vec<bool>,
    /// How the messages come.
    way: Way,
    /// Nothing more is accepted from the start, or else when all messages were sent.
    stops_early: bool,
    /// The client of the first one sends when the second one has handled all its messages.
    comes_after: Option<(usize, usize)>,
}

#[derive(Clone, Copy)]
enum Way {
    /// On a socket, which ends the wait of a loop that sleeps.
    Socket,
    /// As mail of other handlers does, whose senders request a turn.
    Mail,
}

impl Scene {
    fn of(threads: usize, connections: &[(usize, Option<usize>)]) -> Scene {
        Scene {
            loops: 1,
            most: 1,
            is_crowded: false,
            threads,
            connections: connections.to_vec(),
            failing_starts: Vec::new(),
            way: Way::Socket,
            stops_early: false,
            comes_after: None,
        }
    }

    /// Returns how often a connection was given to another loop.
    fn explore(self) -> usize {
        let moves = Arc::default();
        for (way, stops_early) in [(Way::Socket, true), (Way::Socket, false), (Way::Mail, true), (Way::Mail, false)] {
            let (scene, moves) = (Scene { way, stops_early, ..self.clone() }, Arc::clone(&moves));
            explore(move || scene.run(&moves));
        }
        moves.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn run(&self, moves: &Arc<std::sync::atomic::AtomicUsize>) {
        let counts =
            |&(expected, waits_for): &(usize, Option<usize>)| Counts { expected, waits_for, ..Counts::default() };
        let most = self.most.max(self.loops);
        let work = Counting {
            connections: self.connections.iter().map(counts).collect(),
            wakes: (0..most).map(|_| AtomicBool::new(false)).collect(),
            occupancies: (0..most).map(|_| Occupancy::default()).collect(),
            hand_over: OnceLock::new(),
            moves: moves.clone(),
            failing_starts: Mutex::new(self.failing_starts.iter().copied().collect()),
            threads: Mutex::default(),
        };
        let hand_over = HandOver::new(work, most, self.threads);
        let work = hand_over.work();
        work.hand_over.set(Arc::downgrade(&hand_over)).expect("it is set once");
        let mut loops: Vec<_> = (0..self.loops).map(|number| work.make_loop(number).expect("a loop")).collect();
        for connection in 0..self.connections.len() {
            let host = Host::new(Arc::downgrade(&hand_over) as Weak<dyn Turns>);
            assert!(work.connections[connection].host.set(host).is_ok());
            if self.connections[connection].0 > 0 {
                let number = if self.is_crowded { 0 } else { connection % self.loops };
                assert!(work.occupancies[number].reserve());
                let turn = Turn { connection, has_more: false, history: TurnHistory::default() };
                work.welcome(&mut loops[number], turn);
            }
        }
        let mut loops = loops.into_iter();
        let started = hand_over.start(loops.next().expect("a loop"), loops);
        let clients: Vec<_> = (0..self.connections.len())
            .map(|connection| {
                let (hand_over, way) = (hand_over.clone(), self.way);
                let messages = self.connections[connection].0;
                let comes_after = self.comes_after.filter(|(own, _)| *own == connection).map(|(_, other)| other);
                thread::spawn(move || {
                    let connections = &hand_over.work().connections;
                    let has_to_wait =
                        |other: usize| connections[other].handled.load(SeqCst) < connections[other].expected;
                    while comes_after.is_some_and(has_to_wait) {
                        thread::yield_now();
                    }
                    let Counts { unread, is_ready, host, .. } = &connections[connection];
                    for _ in 0..messages {
                        unread.fetch_add(1, SeqCst);
                        match way {
                            Way::Mail => host.get().expect("a host").request_turn(),
                            Way::Socket => is_ready.store(true, SeqCst),
                        }
                    }
                })
            })
            .collect();
        let stop = || (0..most).for_each(|number| hand_over.notify(number, Notice::NoMore));
        if self.stops_early {
            stop();
        }
        // It ends when the loops do.
        let joined = started.is_err().then(|| {
            thread::spawn({
                let hand_over = hand_over.clone();
                move || hand_over.join()
            })
        });
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        if !self.stops_early {
            stop();
        }
        joined.into_iter().for_each(|joined| joined.join().expect("no panic"));
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
    (1..6).for_each(|threads| _ = Scene::of(threads, &[(2, None), (2, None)]).explore());
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

#[test]
fn a_loop_gives_connections_to_one_that_sleeps() {
    let scene = Scene { loops: 2, is_crowded: true, ..Scene::of(9, &[(2, None), (2, None), (1, None)]) };
    assert!(scene.explore() > 0, "no connection was given away");
}

#[test]
fn a_connection_whose_handler_is_slow_is_given_away() {
    let scene = Scene { loops: 2, is_crowded: true, ..Scene::of(9, &[(4, Some(2)), (4, None), (4, None)]) };
    assert!(scene.explore() > 0, "no connection was given away");
}

#[test]
fn a_loop_is_started_for_connections_that_are_too_many_for_one() {
    let scene = Scene { most: 2, ..Scene::of(9, &[(8, None), (8, None)]) };
    assert!(scene.explore() > 0, "no loop was started, or it was given no connection");
}

#[test]
fn a_loop_that_cannot_be_started_later_is_done_without() {
    // The third thread is that of the loop, if it is not one for a slow handler.
    let failing_starts = vec![false, false, true];
    Scene { most: 2, failing_starts, ..Scene::of(9, &[(2, None), (2, None), (2, None)]) }.explore();
}
