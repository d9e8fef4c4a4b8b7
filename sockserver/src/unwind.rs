//! The rule for panics: handlers, hooks and [`get_request`](crate::Transport::get_request) run here, and their panics
//! go no further. What else a user can write, such as a [`Concurrency`](crate::Concurrency), panics on whoever calls
//! it.
//!
//! A panic ends the request that it happened in. What other requests share with that one is the server struct, whose
//! own locks tell of a panic (`std::sync::Mutex`) or do not (`parking_lot`), as their users have chosen.

use std::{
    any::Any,
    cell::RefCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::primitives::thread_local;

/// What a handler has can be used in a [`catch_unwind`] of its own: no lock of this crate is held while it runs.
macro_rules! unwind_safe {
    ($type:ty) => {
        impl std::panic::UnwindSafe for $type {}
        impl std::panic::RefUnwindSafe for $type {}
    };
}
pub(crate) use unwind_safe;

/// Which server of this process user code belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerId(u64);

impl ServerId {
    pub(crate) fn new() -> ServerId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ServerId(NEXT.fetch_add(1, Relaxed))
    }
}

thread_local! {
    /// The servers whose user code this thread is in, innermost last.
    static RUNNING: RefCell<Vec<ServerId>> = const { RefCell::new(Vec::new()) };
}

/// Runs user code for a server. `Err`: what it panicked with.
pub(crate) fn run<T>(server: ServerId, user_code: impl FnOnce() -> T) -> Result<T, String> {
    // A thread that is ending has no place for it any more: a server that it drops then is not in its own user code.
    let _ = RUNNING.try_with(|running| running.borrow_mut().push(server));
    let result = catch_unwind(AssertUnwindSafe(user_code));
    let _ = RUNNING.try_with(|running| running.borrow_mut().pop());
    result.map_err(message)
}

/// Whether this thread is in user code of that server.
pub(crate) fn is_running(server: ServerId) -> bool {
    RUNNING.try_with(|running| running.borrow().contains(&server)).unwrap_or(false)
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
    // Dropping it runs user code as well. What panics once more than that is never dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(again);
    }
    text.unwrap_or_else(|| "a value that is no text".into())
}
