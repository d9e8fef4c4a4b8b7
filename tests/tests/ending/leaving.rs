//! How a server says that it is about to stop (`is_ready`, `is_stopping`, `on_stopping`), and how it lingers.

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Closing, Concurrency, DrainReport, Handled, HandlerResult, Options, ServerHandle, concurrency::Threading,
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::Word,
    farewell::{Call, End, Farewell, Guest, Hosted, said_goodbye, upper},
    in_each_concurrency,
    served::Watchdog,
};

fn lingering(linger: Duration) -> Options {
    let mut options = Options::new();
    options.timeouts.linger = linger;
    options
}

fn serve<C: Concurrency + Default>() -> Hosted {
    Farewell::<C>::upper().serve(Options::new())
}

/// Counts how often it is called.
fn counter() -> (Arc<AtomicUsize>, impl FnOnce() + Send + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (count, move || _ = counted.fetch_add(1, SeqCst))
}

fn a_server_says_whether_it_is_ready<C: Concurrency + Default>() {
    let server = serve::<C>();
    let state = || (server.is_ready(), server.is_stopping());
    assert_eq!(state(), (true, false));
    server.suspend();
    assert_eq!(state(), (false, false));
    server.resume();
    assert_eq!(state(), (true, false));
    server.shutdown();
    assert_eq!(state(), (false, true));
    // It is over for good.
    server.resume();
    server.wait().expect("no handler of the server");
    assert_eq!(state(), (false, true));
}

fn a_server_that_does_not_serve_yet_can_be_ready<C: Concurrency + Default>() {
    let (server, _calls) = Farewell::<C>::upper().bind(Options::new());
    let handle = server.handle();
    assert_eq!((handle.is_ready(), handle.is_stopping()), (true, false));
    handle.shutdown();
    assert_eq!((handle.is_ready(), handle.is_stopping()), (false, true));
}

fn a_handler_can_ask_whether_the_server_is_stopping<C: Concurrency + Default>() {
    let (start, started) = mpsc::channel();
    let work = move |guest: &mut Guest<C>| -> HandlerResult {
        start.send(())?;
        eventually("the server stops", || guest.server.is_stopping());
        Ok(writeln!(guest.wfile, "half of the work")?)
    };
    let server = Farewell::new(work).serve(Options::new());
    let mut client = server.connect();
    started.recv_timeout(PATIENCE).expect("the handler runs");
    server.shutdown();
    assert_eq!(client.rest(), "half of the work\n");
    assert_eq!(server.stop().1, [Call::Handled(End::Fine), Call::Finish]);
}

fn on_stopping_is_called_once<C: Concurrency + Default>() {
    let server = serve::<C>();
    let (counts, callbacks): (Vec<_>, Vec<_>) = (0..3).map(|_| counter()).unzip();
    let _guards: Vec<_> = callbacks.into_iter().map(|callback| server.on_stopping(callback)).collect();
    let counted = || counts.iter().map(|count| count.load(SeqCst)).collect::<Vec<_>>();
    assert_eq!(counted(), [0, 0, 0]);
    server.shutdown();
    eventually("all are called", || counted() == [1, 1, 1]);
    server.shutdown();
    server.wait().expect("no handler of the server");
    assert_eq!(counted(), [1, 1, 1]);
}

fn on_stopping_is_called_at_once_where_the_server_stops_already<C: Concurrency + Default>() {
    let server = serve::<C>();
    server.shutdown();
    for _ in 0..2 {
        let (count, callback) = counter();
        let _guard = server.on_stopping(callback);
        eventually("it is called", || count.load(SeqCst) == 1);
        server.wait().expect("no handler of the server");
        assert_eq!(count.load(SeqCst), 1);
    }
}

fn on_stopping_is_not_called_after_its_guard_was_dropped<C: Concurrency + Default>() {
    let server = serve::<C>();
    let [(taken_away, first), (kept, second)] = [counter(), counter()];
    let guard = server.on_stopping(first);
    let _kept = server.on_stopping(second);
    drop(guard);
    assert_eq!(Arc::strong_count(&taken_away), 1, "what it holds is dropped as well");
    server.shutdown();
    eventually("the other one is called", || kept.load(SeqCst) == 1);
    assert_eq!(taken_away.load(SeqCst), 0);
}

fn on_stopping_is_not_called_after_its_guard_was_dropped_during_the_stop<C: Concurrency + Default>() {
    let server = serve::<C>();
    let (start, started) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let _first = server.on_stopping(move || {
        start.send(()).expect("the test waits for it");
        // The test may have failed.
        let _ = ended.recv();
    });
    let is_dropped = Arc::new(AtomicBool::new(false));
    let (count, second) = counter();
    let dropped = is_dropped.clone();
    let guard = server.on_stopping(move || {
        if dropped.load(SeqCst) {
            second();
        }
    });
    let (last, third) = counter();
    let _third = server.on_stopping(third);
    let handle = ServerHandle::clone(&server);
    let stopping = thread::spawn(move || handle.shutdown());
    started.recv_timeout(PATIENCE).expect("the first one is called");
    drop(guard);
    // Another thread that stops the server may have taken it just before, and be about to call it.
    thread::sleep(Duration::from_millis(500));
    is_dropped.store(true, SeqCst);
    end.send(()).expect("the first one waits");
    eventually("the last one is called", || last.load(SeqCst) == 1);
    assert_eq!(count.load(SeqCst), 0);
    stopping.join().expect("no panic");
}

fn a_panic_in_on_stopping_changes_nothing<C: Concurrency + Default>() {
    let server = serve::<C>();
    let mut client = server.connect();
    assert_eq!(client.ask("hello"), "HELLO");
    let (count, callback) = counter();
    let _guards = (
        server.on_stopping(|| panic!("as it was told to")),
        server.on_stopping(callback),
        server.on_stopping(|| panic!("as it was told to")),
    );
    server.shutdown();
    eventually("the one between them is called", || count.load(SeqCst) == 1);
    assert_eq!(client.rest(), "");
    let (drained, calls) = server.stop();
    assert_eq!((drained.in_time, calls), (1, said_goodbye(Closing::Draining)));
}

fn a_server_has_called_on_stopping_when_it_has_ended<C: Concurrency + Default>() {
    for linger in [Duration::ZERO, Duration::from_millis(50)] {
        let server = Farewell::<C>::upper().serve(lingering(linger));
        assert_eq!(server.connect().ask("hello"), "HELLO");
        // What is called after this one comes late.
        let _first = server.on_stopping(|| thread::sleep(Duration::from_millis(300)));
        let (count, callback) = counter();
        let _second = server.on_stopping(callback);
        server.stop();
        assert_eq!(count.load(SeqCst), 1, "after lingering for {linger:?}");
    }
}

fn on_stopping_can_steer_the_server<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let server = serve::<C>();
    let (sender, seen) = mpsc::channel();
    let guards = Arc::new(Mutex::new(Vec::new()));
    let (handle, mine) = (ServerHandle::clone(&server), guards.clone());
    let guard = server.on_stopping(move || {
        handle.shutdown();
        let (count, callback) = counter();
        let _now = handle.on_stopping(callback);
        eventually("it is called", || count.load(SeqCst) == 1);
        // `try_lock`: where it was called late, the test has them.
        let other = mine.try_lock().map(|mut guards: std::sync::MutexGuard<'_, Vec<_>>| guards.pop());
        drop(other);
        let wait = handle.wait().map_err(|error| error.kind());
        sender.send((handle.is_stopping(), count.load(SeqCst), wait)).expect("the test waits for it");
    });
    let (_other_count, other) = counter();
    guards.lock().unwrap().push(server.on_stopping(other));
    server.shutdown();
    let deadlock = Err(std::io::ErrorKind::Deadlock);
    assert_eq!(seen.recv_timeout(PATIENCE), Ok((true, 1, deadlock)));
    drop(guard);
    server.wait().expect("no handler of the server");
}

fn a_handler_that_waits_for_a_channel_ends_by_on_stopping<C: Concurrency + Default>() {
    let (start, started) = mpsc::channel();
    let handle = move |guest: &mut Guest<C>| -> HandlerResult {
        let (news, incoming) = mpsc::channel();
        let stop = news.clone();
        let _on_stopping = guest.server.on_stopping(move || _ = stop.send(None));
        news.send(Some("first"))?;
        start.send(())?;
        while let Some(line) = incoming.recv()? {
            writeln!(guest.wfile, "{line}")?;
        }
        Ok(())
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    started.recv_timeout(PATIENCE).expect("the handler runs");
    let begin = Instant::now();
    let (drained, calls) = server.stop();
    assert_eq!((drained.in_time, drained.forced, drained.leaked), (1, 0, 0));
    assert_eq!(calls, [Call::Handled(End::Fine), Call::Finish]);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}, as if it were busy", begin.elapsed());
    assert_eq!(client.rest(), "first\n");
}

/// How long the servers of these tests linger.
const LINGER: Duration = Duration::from_millis(1500);

/// `stop` makes the server linger, and returns when it has ended.
fn lingers<C: Word>(stop: impl FnOnce(Hosted) -> Vec<Call> + Send + 'static) {
    let server = Farewell::<C>::upper().serve(lingering(LINGER));
    let handle = ServerHandle::clone(&server);
    let (sender, stopping) = mpsc::channel();
    let _on_stopping = handle.on_stopping(move || sender.send(Instant::now()).expect("the test waits for it"));
    // With `sync` it has the only handler.
    let mut before = server.connect();
    assert_eq!(before.ask("hello"), "HELLO");
    let before = (C::WORD != "sync").then_some(before);
    let begin = Instant::now();
    let stopping_thread = thread::spawn(|| stop(server));
    eventually("it is not ready", || !handle.is_ready());
    if !handle.is_stopping() {
        let mut during = Client::connect(handle.server_address());
        let answer = during.ask("hello");
        assert!(answer == "HELLO" || handle.is_stopping(), "{answer:?}");
    }
    let drained_at = stopping.recv_timeout(PATIENCE).expect("it drains");
    assert!(drained_at - begin >= LINGER, "{:?}", drained_at - begin);
    assert!(handle.is_stopping() && !handle.is_ready());
    let calls = stopping_thread.join().expect("no panic");
    assert!(begin.elapsed() < LINGER + Duration::from_secs(12), "{:?}", begin.elapsed());
    if let Some(mut before) = before {
        assert_eq!(before.rest(), "");
        assert!(calls.contains(&Call::Handled(End::Server(Closing::Draining))), "{calls:?}");
    }
    assert!(handle.stats().accepted > 0);
}

fn a_server_lingers_before_it_drains<C: Word>() {
    lingers::<C>(|server| server.stop().1);
}

fn a_second_shutdown_changes_nothing_about_lingering<C: Word>() {
    lingers::<C>(|server| {
        // Without an end, if each began anew; too early, if one cut it short.
        while !server.is_stopping() {
            server.shutdown();
            thread::sleep(Duration::from_millis(20));
        }
        server.stop().1
    });
}

fn a_suspended_server_lingers_and_drains<C: Word>() {
    lingers::<C>(|server| {
        server.shutdown();
        server.suspend();
        thread::sleep(Duration::from_millis(200));
        // Accepting again, if not ready.
        server.resume();
        assert!(!server.is_ready());
        server.stop().1
    });
}

fn a_server_that_was_just_started_lingers_as_well<C: Concurrency + Default>() {
    let server = Farewell::<C>::upper().serve(lingering(LINGER));
    let begin = Instant::now();
    assert_eq!(server.stop(), (DrainReport::default(), vec![]));
    assert!(begin.elapsed() >= LINGER);
}

fn a_dropped_server_lingers_as_well<C: Word>() {
    lingers::<C>(|server| {
        drop(server);
        vec![Call::Handled(End::Server(Closing::Draining))]
    });
}

fn idle_connections_live_on_while_the_server_lingers<C: Concurrency + Default>() {
    let server = Farewell::<C>::upper().serve(lingering(LINGER));
    let mut client = server.connect();
    assert_eq!(client.ask("hello"), "HELLO");
    server.shutdown();
    let mut answered = 0;
    while !server.is_stopping() {
        client.send("again\n");
        match client.line().as_str() {
            "AGAIN" => answered += 1,
            "" => break,
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(answered > 0);
    eventually("it drains", || server.is_stopping());
    client.wait_for_end();
    assert_eq!(server.stop().1, said_goodbye(Closing::Draining));
}

/// The supervisor sleeps until then, unless something wakes it.
fn a_server_drains_after_lingering_although_the_next_lifetime_ends_later<C: Concurrency + Default>() {
    let mut options = lingering(Duration::from_millis(100));
    options.timeouts.lifetime = Some(Duration::from_secs(3600));
    let server = Farewell::<C>::upper().serve(options);
    let mut client = server.connect();
    assert_eq!(client.ask("hello"), "HELLO");
    server.shutdown();
    client.wait_for_end();
    assert!(server.is_stopping());
    assert_eq!(server.stop().1, said_goodbye(Closing::Draining));
}

fn lingering_is_not_waited_for_where_the_server_does_not_serve<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    // Longer than any test may take.
    let linger = lingering(Duration::from_secs(3600));
    let (server, _calls) = Farewell::<C>::upper().bind(linger.clone());
    let handle = server.handle();
    let (count, callback) = counter();
    let _on_stopping = handle.on_stopping(callback);
    handle.shutdown();
    assert_eq!((handle.is_ready(), handle.is_stopping(), count.load(SeqCst)), (false, true, 1));
    assert_ne!(server.handle_request().expect("it is shut down"), Handled::Request);
    server.serve_forever().expect("it is shut down");
    // Dropped without having served, and between two single requests.
    let (server, _calls) = Farewell::<C>::upper().bind(linger.clone());
    let handle = server.handle();
    handle.shutdown();
    drop(server);
    assert_eq!(handle.wait().expect("no handler of the server"), DrainReport::default());
    let (server, _calls) = Farewell::<C>::upper().bind(linger);
    let mut client = Client::connect(server.server_address());
    client.finish();
    assert_eq!(server.handle_request().expect("a client is there"), Handled::Request);
    server.handle().shutdown();
    assert_ne!(server.handle_request().expect("it is shut down"), Handled::Request);
}

fn a_single_request_that_is_waited_for_ends_without_lingering<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let (server, _calls) = Farewell::<C>::upper().bind(lingering(Duration::from_secs(3600)));
    let handle = server.handle();
    thread::scope(|scope| {
        let (sender, handled) = mpsc::channel();
        scope.spawn(move || sender.send(server.handle_request().expect("it is shut down")));
        // It waits by then, or soon.
        assert_eq!(handled.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        handle.shutdown();
        assert_eq!(handled.recv_timeout(PATIENCE), Ok(Handled::Stopped));
    });
}

in_each_concurrency! { [sync threading pool]:
    a_handler_can_ask_whether_the_server_is_stopping
    a_handler_that_waits_for_a_channel_ends_by_on_stopping
}
in_each_concurrency! { [sync threading pool event_loop]:
    a_server_says_whether_it_is_ready
    a_server_that_does_not_serve_yet_can_be_ready
    on_stopping_is_called_once
    on_stopping_is_called_at_once_where_the_server_stops_already
    on_stopping_is_not_called_after_its_guard_was_dropped
    on_stopping_is_not_called_after_its_guard_was_dropped_during_the_stop
    a_panic_in_on_stopping_changes_nothing
    a_server_has_called_on_stopping_when_it_has_ended
    on_stopping_can_steer_the_server
    a_server_lingers_before_it_drains
    a_second_shutdown_changes_nothing_about_lingering
    a_suspended_server_lingers_and_drains
    a_server_that_was_just_started_lingers_as_well
    a_dropped_server_lingers_as_well
    idle_connections_live_on_while_the_server_lingers
    a_server_drains_after_lingering_although_the_next_lifetime_ends_later
    lingering_is_not_waited_for_where_the_server_does_not_serve
    a_single_request_that_is_waited_for_ends_without_lingering
}

#[test]
fn on_stopping_and_shutdown_cannot_miss_each_other() {
    let _watchdog = Watchdog::new();
    for _ in 0..200 {
        let (server, _calls) = Farewell::new(upper::<Threading>).bind(Options::new());
        let handle = server.handle();
        let (count, callback) = counter();
        thread::scope(|scope| {
            let guard = scope.spawn(|| handle.on_stopping(callback));
            handle.shutdown();
            let _guard = guard.join().expect("no panic");
        });
        assert_eq!(count.load(SeqCst), 1);
    }
}
