//! Plain clients, for the suites that run over TLS too.

use sockserver::{Address, Options};
use sockserver_tests::client::Client;

pub(crate) type Peer = Client;

#[derive(Clone)]
pub(crate) struct Peers;

impl Peers {
    pub(crate) fn new() -> Peers {
        Peers
    }

    pub(crate) fn change(&self, _: &mut Options) {}

    #[track_caller]
    pub(crate) fn connect(&self, server: &Address) -> Peer {
        Client::connect(server)
    }
}
