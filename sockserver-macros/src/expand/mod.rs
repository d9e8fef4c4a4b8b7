//! Quotes the models. Nothing fails here.

mod handler;
mod server;

pub(crate) use self::{handler::handler, server::server};

use crate::value::Value;
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote;
use std::time::Duration;
use syn::Path;

fn value(value: &Value, krate: &Path) -> TokenStream {
    match value {
        Value::Choice(choices, choice) => {
            let home = Ident::new(choices.home, Span::call_site());
            let name = choice.name.map(|name| Ident::new(name, Span::call_site()));
            quote!(#krate::#home::#name)
        }
        Value::Path(path) => quote!(#path),
        Value::Flag(flag) => quote!(#flag),
        Value::Number(number) => {
            let number = Literal::u64_unsuffixed(*number);
            quote!(#number)
        }
        Value::Duration(duration) => self::duration(*duration),
        Value::Mode(mode) => quote!(#mode),
    }
}

fn duration(duration: Duration) -> TokenStream {
    if duration.subsec_millis() == 0 {
        let seconds = Literal::u64_unsuffixed(duration.as_secs());
        quote!(::core::time::Duration::from_secs(#seconds))
    } else {
        let milliseconds = Literal::u128_unsuffixed(duration.as_millis());
        quote!(::core::time::Duration::from_millis(#milliseconds))
    }
}
