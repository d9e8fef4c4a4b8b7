//! What the tests share.

pub mod behind;
pub mod browser;
pub mod client;
pub mod concurrencies;
pub mod either;
pub mod farewell;
pub mod last_word;
pub mod line_server;
pub mod own_framings;
pub mod pieces;
pub mod place;
pub mod process;
pub mod proxies;
pub mod resources;
pub mod script;
pub mod served;
pub mod ship;
pub mod tls;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
