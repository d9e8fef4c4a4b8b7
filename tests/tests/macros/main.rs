//! What the macros write and say, and what holds for the sources as a whole.

mod compiled;
mod expansions;
mod lints;
mod names;
mod rooms;
