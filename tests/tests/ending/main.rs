//! How connections and servers end.

mod cuts;
mod draining;
mod handing_over;
mod idle;
mod in_processes;
mod leaving;
mod lingering;
mod restarts;
mod signals;
mod stopping;
