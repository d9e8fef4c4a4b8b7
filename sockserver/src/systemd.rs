//! What a service tells systemd: the feature `systemd`.
//!
//! `sd_notify(3)` has the protocol. Without `NOTIFY_SOCKET` in the environment nothing is sent. A message that cannot
//! be sent means that systemd is gone. Only the first one is an error.

use std::{
    io,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

use crate::{callbacks::OnStopping, primitives::Mutex};

/// Tells systemd about one server, until it is dropped.
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
    /// Says that the service is up. `on_stopping` calls [`stopping`].
    pub(crate) fn begin(on_stopping: OnStopping) -> io::Result<Notifications> {
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
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// Says that the service ends, which takes this long at most.
pub(crate) fn stopping(time: Duration) {
    let time = time.as_micros().try_into().unwrap_or(u32::MAX);
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(time)]);
}

/// The service reloads, from its beginning until it is dropped: by itself, or by a successor.
pub(crate) struct Reload {
    successor: Option<u32>,
}

impl Reload {
    pub(crate) fn begin() -> Reload {
        let now = NotifyState::monotonic_usec_now();
        let _ = now.and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
        Reload { successor: None }
    }

    /// It ends with this process as the main process of the service.
    pub(crate) fn end_with(mut self, successor: u32) {
        self.successor = Some(successor);
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        // One message: afterwards systemd may listen to the successor alone.
        let main_process = self.successor.map(NotifyState::MainPid);
        let messages: Vec<_> = main_process.into_iter().chain([NotifyState::Ready]).collect();
        let _ = sd_notify::notify(&messages);
    }
}
