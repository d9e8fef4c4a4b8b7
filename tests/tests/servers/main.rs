//! A server from its binding to its end, with every transport and every concurrency.

mod accepting;
mod api;
mod binding;
mod extending;
mod lifecycle;
mod limits;
mod matrix;
mod parity;
mod unix_files;
