//! What systemd hears of a server, from the thread that waits for clients.

use std::time::Instant;
#[cfg(feature = "systemd")]
use std::{io, sync::Arc};

use super::Acceptor;
use crate::service::Service;
#[cfg(feature = "systemd")]
use crate::{
    connections::GRACE,
    options::Timeouts,
    primitives::atomic::Ordering::SeqCst,
    systemd::{self, Notifications},
};

impl<S: Service> Acceptor<S> {
    /// Tells systemd about the server from now on.
    #[cfg(feature = "systemd")]
    pub(crate) fn notify_systemd(&self) -> io::Result<()> {
        let Timeouts { linger, shutdown, .. } = self.options.timeouts;
        // A handler that was cut has a while to return, and so has a client that lingers.
        let time = linger.saturating_add(shutdown).saturating_add(3 * GRACE);
        let state = Arc::downgrade(self.handle.state());
        let on_stopping = self.handle.on_stopping(move || {
            // With a successor the service goes on.
            if state.upgrade().is_none_or(|state| !state.has_successor.load(SeqCst)) {
                systemd::stopping(time);
            }
        });
        let notifications = Notifications::begin(on_stopping)?;
        self.state().tells_systemd.store(true, SeqCst);
        // It was called before.
        let _ = self.notifications.set(notifications);
        Ok(())
    }

    /// When systemd has to hear next that the server can accept.
    #[cfg_attr(not(feature = "systemd"), expect(clippy::unused_self, reason = "with the feature, it is used"))]
    pub(crate) fn next_beat(&self) -> Option<Instant> {
        #[cfg(feature = "systemd")]
        return self.notifications.get().and_then(Notifications::due);
        #[cfg(not(feature = "systemd"))]
        None
    }

    /// Tells systemd that the server can accept, if that is due.
    #[cfg_attr(not(feature = "systemd"), expect(clippy::unused_self, reason = "with the feature, it is used"))]
    pub(crate) fn beat(&self) {
        #[cfg(feature = "systemd")]
        self.notifications.get().into_iter().for_each(Notifications::beat);
    }
}
