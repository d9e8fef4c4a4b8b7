use sockserver::*;

#[request_handler]
struct Session(#[cfg(unix)] PeerCred, Reader, #[cfg(unix)] Writer);

fn main() {}
