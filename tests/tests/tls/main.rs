//! TLS, with clients of several kinds.

mod endings;
mod everywhere;
mod handshakes;
mod hostile;
mod kit;
mod material;
mod message_handlers;
#[path = "../handlers/obeying.rs"]
mod obeying;
mod peers;
mod preamble;
mod programs;
mod start_tls;
mod traffic;
