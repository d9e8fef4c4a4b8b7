//! Every `unsafe` block and every system call that neither `std` nor `socket2` wraps.

#![allow(unsafe_code)]

mod file;
mod memory;
mod packet;
mod poll;
mod process;
mod processors;
mod shared_memory;
mod socket;
mod socket_options;
mod thread;

pub(crate) use file::{read_at, set_mode, try_lock};
pub(crate) use memory::position;
pub(crate) use packet::*;
pub(crate) use poll::{Watched, is_readable, poll};
pub(crate) use process::*;
pub(crate) use processors::idle_time;
pub(crate) use shared_memory::Shared;
pub(crate) use socket::*;
pub(crate) use socket_options::*;
pub(crate) use thread::ThreadView;
