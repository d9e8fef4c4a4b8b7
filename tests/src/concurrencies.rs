//! The same test in several concurrencies. A new one is named five times, in this file.

use sockserver::{
    Concurrency,
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
    (@case $test:ident $name:ident, $concurrency:ident) => {
        #[test]
        fn $name() {
            super::$test::<sockserver::concurrency::$concurrency>();
        }
    };
}
