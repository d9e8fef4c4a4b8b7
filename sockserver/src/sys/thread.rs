//! What one thread can see of another.

use std::time::Duration;

/// A thread as other threads see it. Plain data: once the thread has ended, there is nothing to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadView {
    /// Its CPU clock and its number, as `clockid_t` and `pid_t`. Zeros where the system has none.
    clock: i32,
    thread: i32,
}

impl ThreadView {
    /// As one word, for an atomic.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.clock as u32) << 32 | u64::from(self.thread as u32)
    }

    pub(crate) fn from_bits(bits: u64) -> ThreadView {
        ThreadView { clock: (bits >> 32) as u32 as i32, thread: bits as u32 as i32 }
    }
}

#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
impl ThreadView {
    /// The calling thread.
    pub(crate) fn current() -> ThreadView {
        let mut clock: libc::clockid_t = 0;
        // SAFETY: the calling thread exists, and pthread_getcpuclockid(3) writes a clock where the pointer points.
        let result = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        // SAFETY: gettid(2) touches no memory.
        let thread = unsafe { libc::gettid() };
        ThreadView { clock: if result == 0 { clock } else { 0 }, thread }
    }

    /// clock_gettime(2): how long the thread has run. `None` if the thread has ended.
    pub(crate) fn cpu_time(self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: clock_gettime(2) writes a time where the pointer points, and fails for a clock that does not exist.
        let result = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        // Zero is CLOCK_REALTIME: the thread had no clock.
        (result == 0 && self.clock != 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// proc(5): whether the thread waits in the kernel. A thread that waits for a processor does not. `None` where
    /// `/proc` is missing, or the thread has ended.
    pub(crate) fn is_waiting(self) -> Option<bool> {
        let stat = std::fs::read(format!("/proc/self/task/{}/stat", self.thread)).ok()?;
        // The state is behind the name, which is in parentheses and may contain some.
        let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
        stat.get(end_of_name + 2).map(|state| *state != b'R')
    }
}

/// These systems do not show it, and all threads of the model are one.
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockserver_model))))]
impl ThreadView {
    pub(crate) fn current() -> ThreadView {
        ThreadView::default()
    }

    pub(crate) fn cpu_time(self) -> Option<Duration> {
        None
    }

    pub(crate) fn is_waiting(self) -> Option<bool> {
        None
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
mod tests {
    use std::{sync::mpsc, thread, time::Instant};

    use super::*;

    fn eventually(is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[test]
    fn a_thread_sees_what_another_one_does() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            tell.send(ThreadView::current()).expect("the test waits");
            while ended.try_recv().is_err() {}
            tell.send(ThreadView::current()).expect("the test waits");
            ended.recv()
        });
        let seen = told.recv().expect("it tells");
        let before = seen.cpu_time().expect("it has a clock");
        eventually(|| seen.cpu_time() > Some(before + Duration::from_millis(10)));
        assert_eq!(seen.is_waiting(), Some(false));
        end.send(()).expect("it waits");
        assert_eq!(told.recv(), Ok(seen));
        eventually(|| seen.is_waiting() == Some(true));
        assert_eq!(ThreadView::from_bits(seen.to_bits()), seen);
        drop(end);
        let _ = other.join().expect("no panic");
        eventually(|| seen.cpu_time().is_none() && seen.is_waiting().is_none());
    }
}
