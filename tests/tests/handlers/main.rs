//! What a handler has, and what becomes of it.

mod beside_threads;
mod broadcast;
mod datagrams;
mod errors;
mod frames;
mod framing;
mod framing_in_pieces;
mod goodbye;
mod loops;
mod mailbox;
mod messages;
mod obeying;
mod peers;
mod streams;
mod two_threads;
