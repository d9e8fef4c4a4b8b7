//! Programs that are talked to over their sockets, and whatever else starts a program.

mod accepting;
mod addresses;
mod chat_replicas;
mod chat_web;
mod events;
mod examples;
mod forking;
mod http;
mod inheriting;
mod judging;
mod kv;
mod lengths;
mod limits;
mod mqtt_lite;
mod parity;
mod proxies;
mod proxy;
mod smtp_sink;
mod systemd;
mod tcp_proxy;
