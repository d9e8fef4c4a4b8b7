//! The rule for panics: user code runs here and nowhere else, and its panics go no further.
//!
//! A panic ends the request that it happened in. What other requests share with that one is the server struct, whose
//! own locks tell of a panic (`std::sync::Mutex`) or do not (`parking_lot`), as their users have chosen.

use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{handle::Control, primitives::thread_local};

thread_local! {
    /// The servers whose user code this thread is in, innermost last.
    static RUNNING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Runs user code for a server. `Err`: what it panicked with.
pub(crate) fn run<T>(control: &Control, user_code: impl FnOnce() -> T) -> Result<T, String> {
    RUNNING.with(|running| running.borrow_mut().push(identity(control)));
    let result = catch_unwind(AssertUnwindSafe(user_code));
    RUNNING.with(|running| running.borrow_mut().pop());
    result.map_err(message)
}

/// Whether this thread is in user code of that server.
pub(crate) fn is_running(control: &Control) -> bool {
    RUNNING.with(|running| running.borrow().contains(&identity(control)))
}

fn identity(control: &Control) -> usize {
    (&raw const *control).addr()
}

fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => {
            panic.downcast_ref::<&str>().map_or("a value that is no text".into(), |message| (*message).into())
        }
    }
}
