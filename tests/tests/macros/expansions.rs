//! The fixtures of `expand/` and their expansions, which compile.

#![allow(dead_code, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/expansions.rs"));
