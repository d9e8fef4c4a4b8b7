use super::{is_refused, server::field};
use crate::{
    keys::{self, Target},
    value::Kind,
};
use proc_macro2::{Span, TokenStream};
use quote::quote;

/// `[(path, whether it is refused, why)]` of all options that have values which are refused.
pub(crate) fn refused_options(options: &TokenStream) -> TokenStream {
    let keys = keys::SERVER.groups.iter().flat_map(|group| group.keys.iter().map(move |key| (group, key)));
    let refusals = keys.flat_map(|(group, key)| {
        let is_optional = matches!(key.sets, Target::Option { is_optional: true });
        let is_duration = matches!(key.takes, Kind::Duration);
        let value = field(group.name, key.name, options);
        let path = if group.name.is_empty() { key.name.to_string() } else { format!("{}.{}", group.name, key.name) };
        key.refused.iter().map(move |(refused, why)| {
            let is_refused = is_refused(&value, *refused, is_duration, is_optional, Span::call_site());
            quote!((#path, #is_refused, #why))
        })
    });
    quote!([#(#refusals),*])
}
