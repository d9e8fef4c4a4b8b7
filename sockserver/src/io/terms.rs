//! What a server gives each of its connections.

use std::{io, time::Duration};

use super::bell::Bell;
use crate::options::Timeouts;
#[cfg(feature = "tls")]
use crate::tls::material::Material;

/// What holds for all connections of one server.
pub(crate) struct Terms {
    /// Ends the waits of handlers for their clients.
    pub(crate) bell: Bell,
    /// What [`Timeouts::idle`] is for a connection whose handler does not change it.
    pub(super) idle: Option<Duration>,
    pub(super) lifetime: Option<Duration>,
    /// How long a client may take for one message.
    pub(super) message: Option<Duration>,
    /// `None`: the server has no TLS.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Material>,
}

impl Terms {
    pub(crate) fn new(
        &Timeouts { idle, lifetime, message, .. }: &Timeouts,
        #[cfg(feature = "tls")] tls: Option<Material>,
    ) -> io::Result<Terms> {
        Ok(Terms {
            bell: Bell::new()?,
            idle,
            lifetime,
            message,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}
