//! The macros of the `sockserver` crate, which re-exports and documents them.
//!
//! `keys` is the table of all that an attribute can say. `attribute` parses tokens by it, `server` and `handler` make
//! models of what was said, and `expand` quotes the models, which cannot fail. Errors are collected on the way and
//! emitted beside the expansion, so that one mistake is one error.
//!
//! A module uses those above it in this list, and no other:

mod suggest;

mod errors;

mod value;

mod composition;

mod keys;

mod attribute;

mod tls;

mod server;

mod handler;

mod expand;

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests;

use errors::Errors;
use handler::Handler;
use keys::Grammar;
use proc_macro2::TokenStream;
use quote::quote;
use server::Server;

#[proc_macro_derive(Server, attributes(server))]
pub fn derive_server(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_server(input.into()).into()
}

#[proc_macro_attribute]
pub fn request_handler(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_handler(arguments.into(), item.into(), &keys::REQUEST_HANDLER).into()
}

#[proc_macro_attribute]
pub fn message_handler(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_handler(arguments.into(), item.into(), &keys::MESSAGE_HANDLER).into()
}

/// For the runtime crate alone, which refuses at run time what the attribute refuses: `refused_options!(options)` is a list
/// of `(path of the option, whether its value is refused, why)`.
#[doc(hidden)]
#[proc_macro]
pub fn refused_options(options: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::refused_options(&options.into()).into()
}

/// For the runtime crate alone, which refuses at run time what means nothing in a composition:
/// `scoped_options!(options, declared)` is a list of `(path of the option, whether it is given, "transport" or "concurrency", the words with which it means
/// something, why)`.
#[doc(hidden)]
#[proc_macro]
pub fn scoped_options(options: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::scoped_options(options.into()).into()
}

/// For the runtime crate alone, which reads options from files: `configured_options!()` is a list of all keys, each as a
/// `Key { group, name, takes, set }`.
#[doc(hidden)]
#[proc_macro]
pub fn configured_options(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::configured_options().into()
}

/// For the runtime crate alone, which refuses at run time what means nothing without another group:
/// `dependent_options!(options)` is a list of `(path of the option, whether it is given, groups, why)`. The option needs
/// one of these groups.
#[doc(hidden)]
#[proc_macro]
pub fn dependent_options(options: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::dependent_options(&options.into()).into()
}

fn expand_server(input: TokenStream) -> TokenStream {
    let input = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return errors::compile_error(&error),
    };
    let mut errors = Errors::default();
    let server = expand::server(&Server::of_derive(&input, &mut errors));
    quote!(#server #errors)
}

fn expand_handler(arguments: TokenStream, item: TokenStream, grammar: &'static Grammar) -> TokenStream {
    let mut input = match syn::parse::Parser::parse2(handler::parse_item, item.clone()) {
        Ok(input) => input,
        Err(error) => {
            let error = errors::compile_error(&error);
            let item = handler::without_own_attributes(item);
            return quote!(#error #item);
        }
    };
    let mut errors = Errors::default();
    let expanded = expand::handler(&Handler::take(arguments, &mut input, grammar, &mut errors));
    quote!(#input #expanded #errors)
}
