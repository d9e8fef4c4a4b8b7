//! The macros of the `sockserver` crate, which re-exports and documents them.
//!
//! An attribute's way through this crate: its tokens are parsed by `attr` into settings, `server` and `handler`
//! make a model of them (`composition` says what fits what), and `expand` quotes the model, which cannot fail.
//! Errors are collected on the way and emitted beside the expansion, so that one mistake is one error.

mod attr;
mod composition;
mod errors;
mod expand;
mod handler;
mod server;
mod suggest;
#[cfg(test)]
mod tests;
mod value;

use proc_macro::TokenStream;

#[proc_macro_derive(Server, attributes(server))]
pub fn derive_server(input: TokenStream) -> TokenStream {
    server::expand(input.into()).into()
}

#[proc_macro_attribute]
pub fn request_handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(arguments.into(), item.into()).into()
}
