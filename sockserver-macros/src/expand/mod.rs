//! Quotes the models. Nothing fails here.

mod handler;
mod server;

pub(crate) use self::{handler::handler, server::server};

use crate::{
    attribute::Checked,
    value::{Refused, Value},
};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use std::time::Duration;
use syn::Path;

fn value(value: &Value, krate: &Path) -> TokenStream {
    match value {
        Value::Word(words, word) => {
            let home = Ident::new(words.home, Span::call_site());
            let name = Ident::new(word.name, Span::call_site());
            quote!(#krate::#home::#name)
        }
        Value::Path(path) | Value::Constant(path) => quote!(#path),
        Value::Name(name) => quote!(#name),
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

/// The span of tokens that stand at another place and resolve as they do here. With the resolution of the user's tokens
/// they would be read by the rules of the user's edition: `::core` is nothing in that of 2015.
fn at(place: Span) -> Span {
    Span::call_site().located_at(place)
}

/// A path of the user's that resolves as it does here, at another place.
fn path_at(path: &Path, place: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    tokens.collect()
}

/// Fails to compile if `value` is what a key refuses, with the words of the key on its constant.
fn assertions(checked: &Checked, value: &TokenStream, is_optional: bool) -> TokenStream {
    let span = at(checked.place());
    let assertions = checked.refused.iter().map(|(refused, words)| {
        let pattern = if is_optional {
            quote_spanned!(span=> ::core::option::Option::Some(it))
        } else {
            quote_spanned!(span=> it)
        };
        let number =
            if checked.is_duration { quote_spanned!(span=> it.as_millis()) } else { quote_spanned!(span=> it) };
        let is_refused = match refused {
            Refused::Zero => quote_spanned!(span=> #number == 0),
            Refused::Above(most) => {
                let most = Literal::u64_unsuffixed(*most);
                quote_spanned!(span=> #number > #most)
            }
        };
        quote_spanned!(span=> ::core::assert!(!::core::matches!(#value, #pattern if #is_refused), #words);)
    });
    assertions.collect()
}
