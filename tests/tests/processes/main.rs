//! Programs that are talked to over their sockets, and whatever else starts a program.

mod accepting;
mod addresses;
mod chat_replicas;
mod events;
mod examples;
mod forking;
mod inheriting;
mod judging;
mod kv;
mod lengths;
mod limits;
mod parity;
mod proxies;
mod proxy;
mod systemd;
