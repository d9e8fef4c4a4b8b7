//! What a service tells systemd: the feature `systemd`.
//!
//! `sd_notify(3)` has the protocol. Without `NOTIFY_SOCKET` in the environment nothing is sent.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

use crate::{callbacks::OnStopping, handle::ServerHandle, primitives::Mutex};

/// Tells systemd about one server, from its binding to its end.
pub(crate) struct Notifications {
    /// `None`: the unit has no watchdog.
    watchdog: Option<Watchdog>,
    _on_stopping: OnStopping,
}

struct Watchdog {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Notifications {
    /// Says that the service is up. `stop`: how long its end takes at most.
    pub(crate) fn begin(handle: &ServerHandle, stop: Duration) -> io::Result<Notifications> {
        let stop = stop.as_micros().try_into().unwrap_or(u32::MAX);
        let state = Arc::downgrade(handle.state());
        let on_stopping = handle.on_stopping(move || {
            // If it fails, systemd is gone, and nobody else wants to know.
            let _ = match state.upgrade().and_then(|state| state.successor()) {
                // The service goes on.
                Some(successor) => sd_notify::notify(&[NotifyState::MainPid(successor)]),
                None => sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(stop)]),
            };
        });
        sd_notify::notify(&[NotifyState::Ready])?;
        // Half of the time, as sd_watchdog_enabled(3) recommends.
        let interval = sd_notify::watchdog_enabled().map(|time| time / 2);
        let watchdog = interval.map(|interval| Watchdog { interval, next: Mutex::new(Instant::now()) });
        Ok(Notifications { watchdog, _on_stopping: on_stopping })
    }

    /// When the next message of the watchdog is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| *watchdog.next.lock())
    }

    /// Says that the accept loop runs, if the message is due.
    pub(crate) fn beat(&self) {
        let Some(watchdog) = &self.watchdog else { return };
        let now = Instant::now();
        {
            let mut next = watchdog.next.lock();
            if now < *next {
                return;
            }
            *next = now + watchdog.interval;
        }
        // A message that is lost is followed by others.
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}
