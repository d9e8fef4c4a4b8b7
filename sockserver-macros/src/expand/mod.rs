//! Quotes the models. Nothing fails here.

mod handler;
mod options;
mod server;

pub(crate) use self::{
    handler::handler,
    options::{configured_options, dependent_options, refused_options, scoped_options},
    server::server,
};

use crate::{
    attribute::CheckedValue,
    value::{Network, Proxy, Refusal, Value},
};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use std::{net::IpAddr, time::Duration};
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
        Value::Rate(count, period) => {
            let (count, constructor) =
                (Literal::u32_unsuffixed(*count), Ident::new(period.constructor, Span::call_site()));
            quote!(#krate::Rate::#constructor(#count))
        }
        Value::Networks(networks) => {
            let networks = networks.iter().map(|it| network(it, krate));
            quote!(const { &[#(#networks),*] })
        }
        Value::Proxies(proxies) => {
            let proxies = proxies.iter().map(|it| match it {
                Proxy::Unix => quote!(#krate::TrustedProxy::Unix),
                Proxy::Network(it) => {
                    let network = network(it, krate);
                    quote!(#krate::TrustedProxy::Network(#network))
                }
            });
            quote!(const { &[#(#proxies),*] })
        }
        Value::Text(text) => quote!(#text),
        Value::Texts(texts) => quote!(&[#(#texts),*]),
    }
}

fn network(Network(address, prefix): &Network, krate: &Path) -> TokenStream {
    let address = match address {
        IpAddr::V4(ip) => {
            let parts = ip.octets().map(Literal::u8_unsuffixed);
            quote!(V4(::core::net::Ipv4Addr::new(#(#parts),*)))
        }
        IpAddr::V6(ip) => {
            let parts = ip.segments().map(Literal::u16_unsuffixed);
            quote!(V6(::core::net::Ipv6Addr::new(#(#parts),*)))
        }
    };
    let prefix = Literal::u8_unsuffixed(*prefix);
    quote!(#krate::Network::new(::core::net::IpAddr::#address, #prefix).unwrap())
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

/// The span for tokens of the macro that errors show at `place`. They keep the resolution of the macro: with that of the
/// user's tokens, the rules of the user's edition would apply, and `::core` is nothing in that of 2015.
fn at(place: Span) -> Span {
    Span::call_site().located_at(place)
}

/// The user's path, which errors show at `place`.
fn path_at(path: &Path, place: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    tokens.collect()
}

/// Expressions that the compiler evaluates, each to an error on the constant, in the words of the key, if the key refuses
/// `value`.
fn refusals(checked: &CheckedValue, value: &TokenStream, is_optional: bool, krate: &Path) -> Vec<TokenStream> {
    let place = at(checked.place());
    let krate = path_at(krate, place);
    let refusals = checked.refused.iter().map(|(refused, words)| {
        let is_refused = is_refused(value, *refused, checked.measure, is_optional, place);
        quote_spanned!(place=> #krate::__private::refuse(#is_refused, #words))
    });
    refusals.collect()
}

/// An expression that is true for a value that is refused.
fn is_refused(
    value: &TokenStream,
    refused: Refusal,
    measure: Option<&str>,
    is_optional: bool,
    place: Span,
) -> TokenStream {
    let pattern = match is_optional {
        true => quote_spanned!(place=> ::core::option::Option::Some(it)),
        false => quote_spanned!(place=> it),
    };
    let measure = measure.map(|method| Ident::new(method, place)).into_iter();
    let number = quote_spanned!(place=> it #(.#measure())*);
    let condition = match refused {
        Refusal::Zero => quote_spanned!(place=> #number == 0),
        Refusal::Empty => quote_spanned!(place=> it.is_empty()),
        Refusal::Above(most) => {
            let most = Literal::u64_unsuffixed(most);
            quote_spanned!(place=> #number > #most)
        }
    };
    quote_spanned!(place=> ::core::matches!(#value, #pattern if #condition))
}
