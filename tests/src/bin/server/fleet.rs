//! Servers that fork, in a process of their own for a storm: `fleet KIND ADDRESS`. They follow each other at the address,
//! each of them steers itself and is shut down in the middle of the storm, and the process ends with success if nothing
//! was broken. `KIND` is who serves: `one` thread, or `several`.

use std::{
    io, panic, process,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use signal_hook::{consts::SIGTERM, low_level};
use sockserver::{
    Concurrency, Server, ServerHandle, SocketServer, Stats,
    concurrency::{Forking, Synchronous},
};
use sockserver_tests::{
    resources::Observed,
    ship::{CONNECTIONS, HANG, ROUND, Random, Ship, check, handled, steer},
};

use crate::Ended;

/// How many servers follow each other.
const SERVERS: u64 = 3;

struct Course {
    begin: Instant,
    random: Random,
    stats: Stats,
    is_over: bool,
}

static COURSE: Mutex<Option<Course>> = Mutex::new(None);

impl Course {
    fn new(number: u64) -> Course {
        let random = Random((u64::from(process::id()) << 32) + number + 1);
        Course { begin: Instant::now(), random, stats: Stats::default(), is_over: false }
    }

    fn turn(&mut self, server: &ServerHandle) {
        self.stats = check(server, &self.stats);
        steer(server, &mut self.random);
        // The clients may take their time to come.
        if self.begin.elapsed() > ROUND && handled(&self.stats) > 0 && !self.is_over {
            self.is_over = true;
            match self.random.below(2) {
                0 => server.shutdown(),
                _ => low_level::raise(SIGTERM).expect("every system has it"),
            }
        }
    }
}

/// Where one thread serves, which starts no child meanwhile.
fn turn_and_count(server: &ServerHandle) {
    // A child that was not waited for has its place.
    assert!(Observed::this().resources().children as u64 <= CONNECTIONS);
    turn(server);
}

fn turn(server: &ServerHandle) {
    let mut course = COURSE.lock().unwrap_or_else(PoisonError::into_inner);
    course.as_mut().expect("it is set before the server is bound").turn(server);
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    // A panic of a hook would go no further.
    panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        process::abort();
    }));
    let [kind, address] = arguments else { return Err("fleet KIND ADDRESS".into()) };
    let mut address = address.clone();
    let mut descriptors = None;
    for number in 0..SERVERS {
        *COURSE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Course::new(number));
        let server: SocketServer<Ship<Forking>> = bind(&address, kind == "several")?;
        if number == 0 {
            address = server.server_address().to_string();
            println!("listening on {address}");
        }
        let handle = server.handle();
        match kind.as_str() {
            "one" => server.serve_forever()?,
            "several" => serve_on_several_threads(server),
            _ => return Err(format!("there is no kind {kind}").into()),
        }
        let (drained, stats) = (handle.wait()?, handle.stats());
        assert_eq!(drained.leaked, 0);
        assert!(stats.active == 0 && handled(&stats) > 0, "{stats:?}");
        drop(handle);
        let after = Observed::this().resources();
        // What the process keeps for all its servers, like the pipe of signals, is there after the first one.
        assert_eq!((after.children, after.descriptors), (0, *descriptors.get_or_insert(after.descriptors)));
    }
    Ok(())
}

fn bind<C: Concurrency + Default>(address: &str, allow_threads: bool) -> io::Result<SocketServer<Ship<C>>> {
    let mut options = Ship::<C>::OPTIONS;
    options.allow_threads = allow_threads;
    options.timeouts.poll = Some(Duration::from_millis(1));
    // A handler that hangs takes longer.
    options.timeouts.shutdown = HANG / 2;
    let server = Ship::<C>::new(turn_and_count).bind_with(address, options)?;
    server.shutdown_on_signals()?;
    Ok(server)
}

/// Three threads wait for requests, a fourth one changes all the time what signals do, and this one steers.
fn serve_on_several_threads(server: SocketServer<Ship<Forking>>) {
    let handle = &server.handle();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| while server.handle_request().is_ok() && !handle.is_stopping() {});
        }
        scope.spawn(|| while bind::<Synchronous>("127.0.0.1:0", false).is_ok() && !handle.is_stopping() {});
        while !handle.is_stopping() {
            turn(handle);
            thread::sleep(Duration::from_millis(1));
        }
    });
}
