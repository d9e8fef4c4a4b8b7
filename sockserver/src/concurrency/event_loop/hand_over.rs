//! Which thread drives a loop, also while a handler is slow.
//!
//! A loop is a value that one thread owns. Its owner takes one turn after the other out of it: a connection that has
//! something to do, or accepting. It *lends* the loop while it runs the turn, which may be slow as it calls the user's
//! code, and takes the loop back when the turn has ended. Nothing of the loop is on a stack then.
//!
//! 1. The *monitor* looks at the lends. If one is slow, the monitor takes the loop, goes on with it, and gives its own
//!    role to a spare thread. If there is none, and may be no more, the next thread that becomes spare has the role.
//! 2. The thread that was *left behind* has its turn and nothing else of the loop. When the turn has ended, the thread
//!    posts it to the loop's inbox, from which the owner puts it back, and becomes a spare thread.
//! 3. A connection whose turn was slow is served by a spare thread at once, until its turns are quick again. When threads
//!    are scarce, this holds for a connection that has had no turn yet as well.
//!
//! A turn is a value that is moved: it is in its loop, on the thread that runs it, in a job for a spare thread, or in the
//! inbox. So the messages of a connection are handled one after the other, on whichever threads.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    inbox::{Inbox, Posted, Sleep},
    lending::{Lend, Lending},
    load::{Load, Share},
    loop_threads::{Call, LoopThreads, RESERVED, Urgency},
    monitor::{Doze, Pace, Sighting, TICK},
};
use crate::{
    primitives::{
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        thread,
    },
    sys::ThreadView,
};

/// What the loops of one server do.
pub(crate) trait Work: Send + Sync + Sized + 'static {
    /// A loop. Its owner alone has it.
    type Loop: Send;
    /// A turn, with all that it needs from the loop.
    type Turn: Send;
    /// What other threads tell a loop.
    type Notice: Send;

    /// Takes the next turn out of the loop, without waiting.
    fn next(&self, of: &mut Self::Loop) -> Next<Self::Turn>;

    /// Waits until there is something to do, or until it is woken.
    fn wait(&self, of: &mut Self::Loop);

    /// Ends the current wait of the loop with this number, or else the next one.
    fn wake(&self, number: usize);

    /// Runs a turn. All of the user's code is called here.
    fn run(&self, turn: &mut Self::Turn, context: TurnContext<'_, Self>);

    /// Puts a turn that was run back into the loop.
    fn settle(&self, of: &mut Self::Loop, turn: Self::Turn);

    fn notice(&self, of: &mut Self::Loop, notice: Self::Notice);

    /// The loop has had more to do than it can. It gives a connection to the loop with this number, which had nothing to do.
    fn share(&self, of: &mut Self::Loop, with: usize);

    /// What is known of the turns of a connection. `None`: they are never given to a spare thread.
    fn history(turn: &mut Self::Turn) -> Option<&mut TurnHistory>;

    /// It is called once for each number.
    fn make_loop(&self, number: usize) -> io::Result<Self::Loop>;

    /// How long the processors of the machine have had nothing to do, in total. `None`: that is not known.
    fn idle_time(&self) -> Option<Duration>;

    /// A further loop cannot be started.
    fn report(&self, error: io::Error);

    fn start_thread(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()>;
}

/// What a loop does next.
pub(crate) enum Next<T> {
    Turn(T),
    Wait,
    /// It has nothing to do any more.
    End,
}

/// How slow the turns of a connection were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TurnHistory {
    /// How many more quick turns it takes until the connection is back on its loop.
    slow: u8,
    /// It has handled a message.
    is_known: bool,
}

/// How many quick turns make a slow connection quick.
const PROBATION: u8 = 8;

impl TurnHistory {
    fn note_slow(&mut self) {
        self.slow = PROBATION;
    }

    fn note_quick(&mut self) {
        self.slow = self.slow.saturating_sub(1);
    }

    /// The connection has handled a message.
    pub(crate) fn note_message(&mut self) {
        self.is_known = true;
    }
}

/// Where a turn runs.
pub(crate) struct TurnContext<'a, W: Work> {
    /// `None`: on a spare thread.
    lend: Option<(&'a Shared<W>, Lend)>,
}

impl<W: Work> TurnContext<'_, W> {
    /// Whether this thread has the turn only, so that the turn need not be short, and its output is sent at once.
    pub(crate) fn is_off_the_loop(&self) -> bool {
        self.lend.as_ref().is_none_or(|(shared, lend)| shared.lending.is_over(*lend))
    }
}

/// The part of a loop that all threads share.
struct Shared<W: Work> {
    lending: Lending<W::Loop>,
    inbox: Inbox<Mail<W>>,
    /// The thread that drives it: a [`ThreadView`]. Its lends come after it.
    owner: AtomicU64,
}

enum Mail<W: Work> {
    Turn(W::Turn),
    Notice(W::Notice),
    /// Share with this loop.
    Share(usize),
}

enum Job<W: Work> {
    /// Drive the loop with this number.
    Drive(usize, Box<W::Loop>),
    Monitor(Watch),
    /// Run a turn of the loop with this number.
    Serve(usize, W::Turn),
}

/// The role of the monitor. There is one.
struct Watch {
    /// By the number of the loop.
    sightings: Vec<Sighting>,
    pace: Pace,
    load: Load,
    /// Another loop may be started, when the others have too much to do.
    may_grow: bool,
}

/// The loops of a server, and the threads that drive them.
pub(crate) struct HandOver<W: Work> {
    work: W,
    loops: Vec<Shared<W>>,
    threads: LoopThreads<Job<W>>,
    doze: Doze,
    /// Spare threads run turns: there may be threads for that besides those of the loops and the monitor.
    has_servers: bool,
    /// How many loops were started: those with the lowest numbers.
    started: AtomicUsize,
    /// How many of them have not ended.
    running: AtomicUsize,
}

impl<W: Work> HandOver<W> {
    /// `loops` is how many there may be at most. There may be this number of `threads`, and one for each loop in any case.
    pub(crate) fn new(work: W, loops: usize, threads: usize) -> Arc<HandOver<W>> {
        let shared = || Shared { lending: Lending::new(), inbox: Inbox::new(), owner: AtomicU64::new(0) };
        Arc::new(HandOver {
            work,
            loops: std::iter::repeat_with(shared).take(loops).collect(),
            threads: LoopThreads::new(threads.max(loops), loops + 1),
            doze: Doze::new(),
            has_servers: threads > loops + 1 + RESERVED,
            started: AtomicUsize::new(1),
            running: AtomicUsize::new(1),
        })
    }

    pub(crate) fn work(&self) -> &W {
        &self.work
    }

    /// Starts a thread for each loop, and the monitor.
    ///
    /// # Errors
    ///
    /// A thread cannot be started. If it is that of the first loop, or the monitor's, its job waits for the next thread that
    /// becomes spare, or [joins](Self::join). The other loops without a thread are dropped.
    pub(crate) fn start(self: &Arc<Self>, first: W::Loop, mut others: impl Iterator<Item = W::Loop>) -> io::Result<()> {
        // The first loop gives work to the others, which are there by then.
        let others = others.try_for_each(|another| self.start_another(another));
        let loops = self.loops.len();
        let watch = Watch {
            sightings: vec![Sighting::default(); loops],
            pace: Pace::default(),
            load: Load::new(loops),
            may_grow: others.is_ok() && self.started() < loops,
        };
        let first = self.start_if_needed(self.threads.submit(Job::Drive(0, Box::new(first)), Urgency::First));
        // It may have to do without a thread.
        let monitor = self.start_if_needed(self.threads.submit(Job::Monitor(watch), Urgency::Second));
        first.and(others).and(monitor)
    }

    fn start_another(self: &Arc<Self>, of: W::Loop) -> io::Result<()> {
        let number = self.started();
        self.running.fetch_add(1, SeqCst);
        let call = self.threads.submit(Job::Drive(number, Box::new(of)), Urgency::First);
        let started = self.start_if_needed(call);
        if started.is_err() && self.threads.withdraw(|job| matches!(job, Job::Drive(of, _) if *of == number)).is_some()
        {
            self.end_loop();
            return started;
        }
        self.started.store(number + 1, SeqCst);
        Ok(())
    }

    /// How many loops there are.
    pub(crate) fn started(&self) -> usize {
        self.started.load(SeqCst)
    }

    /// Gives a notice to the loop with this number.
    pub(crate) fn notify(&self, number: usize, notice: W::Notice) {
        self.post(number, Mail::Notice(notice));
    }

    /// Makes the calling thread one of these threads, until all loops have ended.
    pub(crate) fn join(self: &Arc<Self>) {
        self.threads.count_caller();
        self.take_jobs();
    }

    /// Takes jobs until this thread is not needed any more.
    fn take_jobs(self: &Arc<Self>) {
        let mut last = None;
        while let Some((taken, job)) = self.threads.wait_for_job(last) {
            match job {
                Job::Drive(number, of) => self.drive(number, of),
                Job::Monitor(watch) => self.monitor(watch),
                Job::Serve(number, turn) => self.serve(number, turn),
            }
            last = Some(taken);
        }
    }

    /// A thread that cannot be started leaves its job to the next spare thread.
    fn start_if_needed(self: &Arc<Self>, call: Call) -> io::Result<()> {
        if call == Call::Made {
            return Ok(());
        }
        let this = self.clone();
        self.work.start_thread(move || this.take_jobs()).inspect_err(|_| self.threads.thread_failed())
    }

    /// Owns the loop until it ends or is taken.
    fn drive(self: &Arc<Self>, number: usize, mut of: Box<W::Loop>) {
        let shared = &self.loops[number];
        // The monitor sees it with the next lend.
        shared.owner.store(ThreadView::current().to_bits(), Relaxed);
        let mut mails = Vec::new();
        loop {
            shared.inbox.fetch(&mut mails);
            for mail in mails.drain(..) {
                match mail {
                    Mail::Turn(turn) => self.work.settle(&mut of, turn),
                    Mail::Notice(notice) => self.work.notice(&mut of, notice),
                    Mail::Share(with) => self.work.share(&mut of, with),
                }
            }
            let mut turn = match self.work.next(&mut of) {
                Next::Turn(turn) => turn,
                Next::Wait => {
                    if shared.inbox.fall_asleep() == Sleep::Begun {
                        self.work.wait(&mut of);
                        shared.inbox.awake();
                        self.doze.rouse();
                    }
                    continue;
                }
                Next::End => {
                    drop(of);
                    return self.end_loop();
                }
            };
            if self.is_for_a_spare(&mut turn) {
                match self.give_to_a_spare(number, turn) {
                    None => continue,
                    Some(kept) => turn = kept,
                }
            }
            let lend = shared.lending.lend(of);
            self.work.run(&mut turn, TurnContext { lend: Some((shared, lend)) });
            match shared.lending.take(lend) {
                Some(owned) => of = owned,
                None => return self.give_back(number, turn, TurnHistory::note_slow),
            }
            if let Some(history) = W::history(&mut turn) {
                history.note_quick();
            }
            self.work.settle(&mut of, turn);
        }
    }

    fn is_for_a_spare(&self, turn: &mut W::Turn) -> bool {
        let is_suspect = |history: &mut TurnHistory| history.slow > 0 || !history.is_known && self.threads.is_scarce();
        self.has_servers && W::history(turn).is_some_and(is_suspect)
    }

    /// `Some`: no thread can be started for a turn, and none is spare.
    fn give_to_a_spare(self: &Arc<Self>, number: usize, turn: W::Turn) -> Option<W::Turn> {
        let call = self.threads.submit(Job::Serve(number, turn), Urgency::Last);
        if self.start_if_needed(call).is_ok() {
            return None;
        }
        match self.threads.withdraw(|job| matches!(job, Job::Serve(of, _) if *of == number))? {
            Job::Serve(_, turn) => Some(turn),
            Job::Drive(..) | Job::Monitor(_) => None,
        }
    }

    /// Runs a turn, on a spare thread.
    fn serve(&self, number: usize, mut turn: W::Turn) {
        let began = Instant::now();
        self.work.run(&mut turn, TurnContext { lend: None });
        let is_quick = began.elapsed() < TICK / 2;
        self.give_back(number, turn, if is_quick { TurnHistory::note_quick } else { TurnHistory::note_slow });
    }

    /// Returns a turn to its loop, which another thread drives.
    fn give_back(&self, number: usize, mut turn: W::Turn, note: fn(&mut TurnHistory)) {
        W::history(&mut turn).map(note);
        self.post(number, Mail::Turn(turn));
    }

    fn post(&self, number: usize, mail: Mail<W>) {
        if self.loops[number].inbox.post(mail) == Posted::ToSleeper {
            self.work.wake(number);
        }
    }

    fn end_loop(&self) {
        if self.running.fetch_sub(1, SeqCst) == 1 {
            // The monitor sees it at its next look: a loop that has ended does not sleep.
            self.threads.close();
        }
    }

    /// Takes loops from slow handlers: this thread drives one then, and another one is the monitor.
    fn monitor(self: &Arc<Self>, mut watch: Watch) {
        while !self.threads.is_closed() {
            pause(watch.pace.tick(Instant::now()));
            let now = Instant::now();
            for (number, shared) in self.loops[..self.started()].iter().enumerate() {
                // The owner is stored before it lends the loop, and `current` sees that.
                let lend = shared.lending.current();
                let owner = ThreadView::from_bits(shared.owner.load(Relaxed));
                let Some(lend) = watch.sightings[number].look(lend, owner, now) else { continue };
                if let Some(of) = shared.lending.take(lend) {
                    watch.pace.alert(now);
                    // If no thread can be started, the next spare thread is the monitor.
                    let _ = self.start_if_needed(self.threads.submit(Job::Monitor(watch), Urgency::Second));
                    return self.drive(number, of);
                }
            }
            self.balance(&mut watch, now);
            if watch.pace.is_quiet(self.are_all_asleep(), now) {
                self.doze.doze_if(|| self.are_all_asleep());
            }
        }
    }

    /// Has a busy loop share with an idle one, or starts another loop.
    fn balance(self: &Arc<Self>, watch: &mut Watch, now: Instant) {
        let loops = self.started();
        for (number, shared) in self.loops[..loops].iter().enumerate() {
            watch.load.note(number, shared.inbox.is_owner_asleep(), now);
        }
        if self.running.load(SeqCst) != loops {
            // A loop has ended, and so the server ends.
            return;
        }
        if let Some(Share { from, to }) = watch.load.share(loops, now) {
            self.post(from, Mail::Share(to));
        }
        if watch.may_grow && watch.load.is_too_much(loops, now, || self.work.idle_time()) {
            let grown = self.work.make_loop(loops).and_then(|another| self.start_another(another));
            watch.may_grow = grown.is_ok() && self.started() < self.loops.len();
            if let Err(error) = grown {
                self.work.report(error);
            }
        }
    }

    fn are_all_asleep(&self) -> bool {
        self.loops[..self.started()].iter().all(|shared| shared.inbox.is_owner_asleep())
    }
}

/// No time passes in the model, where a thread that sleeps would run again at once.
fn pause(time: Duration) {
    if cfg!(sockserver_model) { thread::yield_now() } else { thread::sleep(time) }
}
