//! A server that forks, in a process of its own for a storm: `ship ADDRESS`. It steers itself, shuts itself down in the
//! middle of it, and ends with success if nothing was broken.

use std::{
    env,
    error::Error,
    panic, process,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sockserver::{Server, ServerHandle, Stats, concurrency::Forking};
use sockserver_tests::{
    resources::Observed,
    ship::{ROUND, Random, Ship, check, handled, steer},
};

struct Course {
    begin: Instant,
    random: Random,
    stats: Stats,
}

static COURSE: LazyLock<Mutex<Course>> = LazyLock::new(|| {
    let seed = u64::from(process::id()) << 32 | 1;
    Mutex::new(Course { begin: Instant::now(), random: Random(seed), stats: Stats::default() })
});

fn turn(server: &ServerHandle) {
    let mut course = COURSE.lock().unwrap_or_else(PoisonError::into_inner);
    let Course { begin, random, stats } = &mut *course;
    *stats = check(server, stats);
    steer(server, random);
    // The clients may take their time to come.
    if begin.elapsed() > ROUND && handled(stats) > 0 {
        server.shutdown();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A panic of a hook would go no further.
    panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        process::abort();
    }));
    let address = env::args().nth(1).ok_or("ship ADDRESS")?;
    let before = Observed::this().resources();
    let mut options = Ship::<Forking>::OPTIONS;
    options.timeouts.poll = Some(Duration::from_millis(1));
    let server = Ship::<Forking>::new(turn).bind_with(&address, options)?;
    println!("listening on {}", server.server_address());
    let handle = server.handle();
    server.serve_forever()?;
    let (drained, stats) = (handle.wait()?, handle.stats());
    assert_eq!((drained.forced, drained.leaked), (0, 0));
    assert!(stats.active == 0 && handled(&stats) > 0, "{stats:?}");
    drop(handle);
    let after = Observed::this().resources();
    assert_eq!((after.children, after.descriptors), (0, before.descriptors));
    Ok(())
}
