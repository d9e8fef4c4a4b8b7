//! The same test in several concurrencies. A new one is named five times, in this file.

use std::{cell::Cell, env, process::Command};

use sockserver::{
    Concurrency, Options,
    concurrency::{EventLoop, Forking, Pool, Synchronous, Threading},
};

/// The words of the attribute for every handler.
pub const WORDS: [&str; 4] = ["sync", "threading", "pool", "forking"];

/// The words for a message handler.
pub const FOR_MESSAGES: [&str; 5] = ["sync", "threading", "pool", "forking", "event_loop"];

/// A concurrency that has a word in the attribute.
pub trait Word: Concurrency + Default {
    const WORD: &str;
}

impl Word for Synchronous {
    const WORD: &str = "sync";
}

impl Word for Threading {
    const WORD: &str = "threading";
}

impl Word for Pool {
    const WORD: &str = "pool";
}

impl Word for Forking {
    const WORD: &str = "forking";
}

impl Word for EventLoop {
    const WORD: &str = "event_loop";
}

thread_local! {
    static WORKERS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What tells a server in a process of its own how many loops it is to have.
const VARIABLE: &str = "WORKERS_OF_TEST";

/// Runs a test whose servers have so many loops, also the servers that it starts as processes.
pub fn with_workers(workers: usize, test: impl FnOnce()) {
    WORKERS.set(Some(workers));
    test();
}

/// Gives a server as many workers as the test of this thread, or of the process that has started this one, is to have.
pub fn set_workers(options: &mut Options) {
    let of_process = || env::var(VARIABLE).ok().and_then(|workers| workers.parse().ok());
    options.workers = WORKERS.get().or_else(of_process).or(options.workers);
}

/// Has the server that is started do so too.
pub(crate) fn pass_workers(server: &mut Command) {
    if let Some(workers) = WORKERS.get() {
        server.env(VARIABLE, workers.to_string());
    }
}

/// Calls a function that is generic over the concurrency with the one that has this word.
#[macro_export]
macro_rules! by_concurrency {
    ($word:expr, $concurrency:ident => $call:expr) => {
        $crate::by_concurrency!(@one_of $word, $concurrency, $call,
            "sync": Synchronous, "threading": Threading, "pool": Pool, "forking": Forking,
            "event_loop": EventLoop)
    };
    (@one_of $word:expr, $concurrency:ident, $call:expr, $($known:literal: $type:ident),*) => {
        match AsRef::<str>::as_ref($word) {
            $( $known => {
                type $concurrency = sockserver::concurrency::$type;
                $call
            } )*
            unknown => Err(format!("there is no concurrency {unknown}").into()),
        }
    };
}

/// Makes tests of functions that are generic over the concurrency: each function in each of those that are listed.
#[macro_export]
macro_rules! in_each_concurrency {
    ($concurrencies:tt: $($test:ident)*) => { $( $crate::in_each_concurrency!(@test $test $concurrencies); )* };
    (@test $test:ident [$($concurrency:ident)*]) => {
        mod $test {
            $( $crate::in_each_concurrency!(@case $test $concurrency); )*
        }
    };
    (@case $test:ident sync) => { $crate::in_each_concurrency!(@case $test sync, Synchronous); };
    (@case $test:ident threading) => { $crate::in_each_concurrency!(@case $test threading, Threading); };
    (@case $test:ident pool) => { $crate::in_each_concurrency!(@case $test pool, Pool); };
    (@case $test:ident forking) => { $crate::in_each_concurrency!(@case $test forking, Forking); };
    (@case $test:ident event_loop) => { $crate::in_each_concurrency!(@case $test event_loop, EventLoop); };
    (@case $test:ident two_loops) => {
        #[test]
        fn two_loops() {
            $crate::concurrencies::with_workers(2, super::$test::<sockserver::concurrency::EventLoop>);
        }
    };
    (@case $test:ident $name:ident, $concurrency:ident) => {
        #[test]
        fn $name() {
            super::$test::<sockserver::concurrency::$concurrency>();
        }
    };
}
