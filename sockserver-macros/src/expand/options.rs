use super::{is_refused, server::field};
use crate::{
    composition::{Axis, Rule},
    keys::{self, Group, Key, Scope, Target},
    value::Kind,
};
use proc_macro2::{Span, TokenStream};
use quote::quote;

/// `[(path, whether it is refused, why)]` of all options that have values which are refused.
pub(crate) fn refused_options(options: &TokenStream) -> TokenStream {
    let refusals = keys().flat_map(|(group, key)| {
        let is_optional = matches!(key.sets, Target::Option { is_optional: true });
        let is_duration = matches!(key.takes, Kind::Duration);
        let value = field(group.name, key.name, options);
        let path = path(group, key);
        key.refused.iter().map(move |(refused, why)| {
            let is_refused = is_refused(&value, *refused, is_duration, is_optional, Span::call_site());
            quote!((#path, #is_refused, #why))
        })
    });
    quote!([#(#refusals),*])
}

/// `[(path, whether it is given, axis, fitting words, why)]` of all options that mean nothing in some compositions. An option
/// is given if it is neither the default nor what the constant `Self::OPTIONS` of the server has, which the attribute has
/// checked.
pub(crate) fn scoped_options(arguments: TokenStream) -> TokenStream {
    // Two names, with a comma between them.
    let mut names = arguments.into_iter();
    let (options, _comma, declared) = (names.next(), names.next(), names.next());
    let (options, declared) = (quote!(#options), quote!(#declared));
    let scoped = keys().filter_map(|(group, key)| {
        let (Target::Option { .. }, Scope::Fitting(Rule { of, fits, because })) = (&key.sets, &key.scope) else {
            return None;
        };
        let path = path(group, key);
        let value = field(group.name, key.name, &options);
        let declared = field(group.name, key.name, &declared);
        let default = field(group.name, key.name, &quote!(Options::new()));
        let axis = match of {
            Axis::Transport => "transport",
            Axis::Concurrency => "concurrency",
        };
        Some(quote!((#path, #value != #default && #value != #declared, #axis, &[#(#fits),*] as &[&str], #because)))
    });
    quote!([#(#scoped),*])
}

fn keys() -> impl Iterator<Item = (&'static Group, &'static Key)> {
    keys::SERVER.groups.iter().flat_map(|group| group.keys.iter().map(move |key| (group, key)))
}

fn path(group: &Group, key: &Key) -> String {
    if group.name.is_empty() { key.name.to_owned() } else { format!("{}.{}", group.name, key.name) }
}
