//! The rule for panics. Handlers, hooks and [`get_request`](crate::Transport::get_request) run in [`run`], which
//! catches their panics. A panic in other user code, such as a [`Concurrency`](crate::Concurrency), unwinds into its
//! caller.
//!
//! A panic ends the request that it happened in. Other requests share only the server struct with that request. Its
//! locks report the panic (`std::sync::Mutex`) or do not (`parking_lot`), as the user has chosen.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::primitives::thread_local;

/// A handler can use the type inside a [`catch_unwind`] of its own: no lock of this crate is held while user code runs.
macro_rules! unwind_safe {
    ($type:ty) => {
        impl std::panic::UnwindSafe for $type {}
        impl std::panic::RefUnwindSafe for $type {}
    };
}
pub(crate) use unwind_safe;

/// The server of this process that user code runs for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerId(u64);

impl ServerId {
    pub(crate) fn new() -> ServerId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ServerId(NEXT.fetch_add(1, Relaxed))
    }
}

thread_local! {
    /// The server whose user code this thread is running. A `Cell`, as each request enters user code several times.
    static RUNNING: Cell<Option<ServerId>> = const { Cell::new(None) };
    /// The servers whose user code has called that of another server, innermost last.
    static CALLING: RefCell<Vec<ServerId>> = const { RefCell::new(Vec::new()) };
}

/// Runs user code for a server. `Err` has the message of its panic.
pub(crate) fn run<T>(server: ServerId, user_code: impl FnOnce() -> T) -> Result<T, String> {
    // An exiting thread may have destroyed its thread-local storage. A server that it drops then is not inside its own
    // user code.
    let caller = RUNNING.try_with(|running| running.replace(Some(server))).unwrap_or_default();
    let other = caller.filter(|&caller| caller != server);
    if let Some(other) = other {
        let _ = CALLING.try_with(|calling| calling.borrow_mut().push(other));
    }
    let result = catch(user_code);
    if other.is_some() {
        let _ = CALLING.try_with(|calling| calling.borrow_mut().pop());
    }
    let _ = RUNNING.try_with(|running| running.set(caller));
    result
}

/// Runs code that may panic. `Err` has the message of its panic.
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// Whether this thread is running user code of this server.
pub(crate) fn is_running(server: ServerId) -> bool {
    RUNNING.try_with(Cell::get).is_ok_and(|running| running == Some(server))
        || CALLING.try_with(|calling| calling.borrow().contains(&server)).unwrap_or(false)
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
    // The drop of the payload is user code as well. If it panics, the payload of that panic is never dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(again);
    }
    text.unwrap_or_else(|| "a payload that is not a string".into())
}
