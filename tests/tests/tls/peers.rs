//! Clients that speak TLS, for the suites that run without it too.

use std::sync::Arc;

use rustls::ClientConfig;
use sockserver::{Address, Options};
use sockserver_tests::tls::{Authority, TlsClient};

pub(crate) type Peer = TlsClient;

#[derive(Clone)]
pub(crate) struct Peers {
    authority: Arc<Authority>,
    config: Arc<ClientConfig>,
}

impl Peers {
    pub(crate) fn new() -> Peers {
        let authority = Authority::new();
        let config = Arc::new(authority.client());
        Peers { authority: Arc::new(authority), config }
    }

    pub(crate) fn change(&self, options: &mut Options) {
        options.tls = self.authority.options().tls;
        // Clients of these suites may be silent for long.
        options.limits.handshakes = Some(1000);
    }

    /// Shakes hands with the first bytes that are sent or received.
    #[track_caller]
    pub(crate) fn connect(&self, server: &Address) -> Peer {
        TlsClient::connect_silently(server, &self.config)
    }
}
