//! The macros of `sockserver`.
