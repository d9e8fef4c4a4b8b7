//! A server from its binding to its end, with every transport. No test here starts a program: until that is executed, it
//! has the sockets of this process, and a name or a port is not free again as soon as a server has closed it.

mod api;
mod binding;
mod configuration;
mod extending;
mod lifecycle;
mod matrix;
mod metrics;
mod socket_options;
mod testing;
mod unix_files;
