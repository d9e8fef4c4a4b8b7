//! The spans and events of the feature `tracing`, in the names of OpenTelemetry.

#[cfg(feature = "tracing")]
use crate::{address::Address, event::Event};
use crate::{connections::stats::Outcome, error::HandlerError, event::ConnectionRef};

/// The span of one connection, from `verify_request` to its end. Without the feature it is nothing.
#[derive(Clone)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(not(feature = "tracing"))]
#[expect(clippy::unused_self, reason = "with the feature, they use it")]
impl Span {
    #[inline]
    pub(crate) fn new(_: ConnectionRef<'_>, _: bool) -> Span {
        Span {}
    }

    #[inline]
    pub(crate) fn name_client(&self, _: ConnectionRef<'_>) {}

    #[inline]
    pub(crate) fn run<T>(&self, action: impl FnOnce() -> T) -> T {
        action()
    }

    #[inline]
    pub(crate) fn end(&self, _: ConnectionRef<'_>, _: Outcome, _: Option<&HandlerError>) {}
}

#[cfg(feature = "tracing")]
impl Span {
    /// The client is not in it yet: behind a proxy the header names it.
    pub(crate) fn new(connection: ConnectionRef<'_>, is_stream: bool) -> Span {
        use tracing::field::Empty;
        let address = connection.peer_address();
        let ip = address.ip();
        let span = tracing::info_span!(
            "connection",
            "sockserver.connection.id" = %connection.id(),
            "client.address" = Empty,
            "client.port" = Empty,
            "network.peer.address" = Empty,
            "network.peer.port" = address.port(),
            "network.transport" = match address {
                Address::Unix(_) => "unix",
                Address::Inet(_) if is_stream => "tcp",
                Address::Inet(_) => "udp",
            },
            "network.type" = ip.map(|ip| if ip.is_ipv4() { "ipv4" } else { "ipv6" }),
            "sockserver.connection.outcome" = Empty,
            "sockserver.connection.closing" = Empty,
            "sockserver.connection.bytes_in" = Empty,
            "sockserver.connection.bytes_out" = Empty,
            "error.type" = Empty,
        );
        if !span.is_disabled() {
            span.record("network.peer.address", host(address).as_str());
        }
        Span { span }
    }

    /// To be called once, when the client is known.
    pub(crate) fn name_client(&self, connection: ConnectionRef<'_>) {
        if self.span.is_disabled() {
            return;
        }
        let address = connection.client_address();
        self.span.record("client.address", host(address).as_str());
        if let Some(port) = address.port() {
            self.span.record("client.port", port);
        }
    }

    pub(crate) fn run<T>(&self, action: impl FnOnce() -> T) -> T {
        self.span.in_scope(action)
    }

    pub(crate) fn end(&self, connection: ConnectionRef<'_>, outcome: Outcome, error: Option<&HandlerError>) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("sockserver.connection.outcome", tracing::field::display(outcome));
        self.span.record("sockserver.connection.bytes_in", connection.bytes_in());
        self.span.record("sockserver.connection.bytes_out", connection.bytes_out());
        if let Some(closing) = connection.closing() {
            self.span.record("sockserver.connection.closing", tracing::field::debug(closing));
        }
        if error.is_some() {
            self.span.record("error.type", tracing::field::display(outcome));
        }
    }
}

/// The IP address, or the address of the Unix socket.
#[cfg(feature = "tracing")]
fn host(address: &Address) -> String {
    address.ip().map_or_else(|| address.to_string(), |ip| ip.to_string())
}

/// What concerns no single connection, and who was turned away.
#[cfg(feature = "tracing")]
pub(super) fn tell(event: &Event<'_>) {
    match event {
        Event::Listening(address) => tracing::info!("server.address" = %address, "listening"),
        Event::TurnedAway { connection, why, .. } => {
            tracing::debug!("client.address" = %connection.client_address(), why = %why, "turned away");
        }
        Event::AcceptError(error) => tracing::error!(error = %error, "accepting failed"),
        Event::LimitReached(connections) => tracing::warn!(connections, "limit reached"),
        Event::LimitLeft(connections) => tracing::info!(connections, "limit left"),
        Event::Suspended => tracing::info!("suspended"),
        Event::Resumed => tracing::info!("resumed"),
        Event::Stopping => tracing::info!("stopping"),
        Event::Stopped(report) => {
            tracing::info!(in_time = report.in_time, forced = report.forced, leaked = report.leaked, "stopped")
        }
        // The span of the connection has these.
        Event::Accepted(_) | Event::Started(_) | Event::Ended { .. } => {}
    }
}
