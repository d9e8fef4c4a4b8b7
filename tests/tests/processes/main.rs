//! Programs that are talked to over their sockets.

mod examples;
mod forking;
