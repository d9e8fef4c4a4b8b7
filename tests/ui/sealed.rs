//! A user's crate cannot reach what the runtime knows about a request, and cannot add a kind of request.

use sockserver::{Address, AnyRequest, ConnectionId};
use std::net::Shutdown;

fn cut<R: AnyRequest>(request: &R) {
    request.tracked().shut(Shutdown::Both);
    let _ = request.kind();
}

#[derive(Clone)]
struct Carrier;

impl AnyRequest for Carrier {
    fn client_address(&self) -> &Address {
        unimplemented!()
    }

    fn id(&self) -> ConnectionId {
        unimplemented!()
    }
}

fn main() {}
