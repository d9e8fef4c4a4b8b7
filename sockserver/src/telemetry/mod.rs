//! What the crates `tracing` and `metrics` hear of a server.

#[cfg(feature = "metrics")]
mod meters;
mod span;

use crate::{address::Address, event::Event};

pub(crate) use span::Span;

/// Passes the events of one server to `tracing` and `metrics`. Without these features it is empty.
pub(crate) struct Telemetry {
    #[cfg(feature = "metrics")]
    meters: meters::Meters,
}

impl Telemetry {
    pub(crate) const IS_ON: bool = cfg!(any(feature = "metrics", feature = "tracing"));

    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "the metrics have it as a label"))]
    pub(crate) fn new(server_address: &Address) -> Telemetry {
        Telemetry {
            #[cfg(feature = "metrics")]
            meters: meters::Meters::new(server_address),
        }
    }

    #[cfg_attr(
        not(any(feature = "metrics", feature = "tracing")),
        expect(unused_variables, reason = "nobody hears it")
    )]
    #[inline]
    pub(crate) fn event(&self, event: &Event<'_>) {
        #[cfg(feature = "metrics")]
        self.meters.count(event);
        #[cfg(feature = "tracing")]
        span::tell(event);
    }
}
