use super::{is_refused, server::field};
use crate::{
    composition::{Axis, Rule},
    keys::{self, Key, Scope, Target},
    value::Kind,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// `[(path, whether it is refused, why)]` of all options that have values which are refused.
pub(crate) fn refused_options(options: &TokenStream) -> TokenStream {
    let refusals = keys().filter(|(_, key)| key.is_option()).flat_map(|(group, key)| {
        let value = field(group, key.name, options);
        let path = path(group, key);
        key.refused.iter().map(move |(refused, why)| {
            let is_refused = is_refused(&value, *refused, key.takes.measure(), key.is_optional(), Span::call_site());
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
    let scoped = keys().filter(|(_, key)| key.is_option()).filter_map(|(group, key)| {
        let Scope::Fitting(Rule { of, fits, because }) = &key.scope else { return None };
        let path = path(group, key);
        let value = field(group, key.name, &options);
        let declared = field(group, key.name, &declared);
        let default = field(group, key.name, &quote!(Options::new()));
        let axis = match of {
            Axis::Transport => "transport",
            Axis::Concurrency => "concurrency",
        };
        let is_given = quote!(#value != #default && #value != #declared);
        Some(quote!((#path, #is_given, #axis, &[#(#fits),*] as &[&str], #because)))
    });
    quote!([#(#scoped),*])
}

/// `[Key { group, name, takes, set }]` of all keys: what a configuration can say, in which words, and how it is set. What only
/// the program can say has no `set`.
pub(crate) fn configured_options() -> TokenStream {
    let keys = keys().map(|(group, key)| {
        let Key { name, takes, .. } = key;
        let expected = takes.expected_data();
        let set = key.is_option().then(|| {
            let place = field(group, name, &quote!(options));
            let value = match takes {
                Kind::Word(words) => {
                    let home = Ident::new(words.home, Span::call_site());
                    let choices = words.words.iter().map(|choice| {
                        let (word, name) = (choice.word, Ident::new(choice.name, Span::call_site()));
                        quote!((#word, #home::#name))
                    });
                    quote!(given.word(&[#(#choices),*])?)
                }
                Kind::Flag => quote!(given.flag()?),
                Kind::Count => quote!(given.count()?),
                Kind::Size => quote!(given.size()?),
                Kind::Duration => quote!(given.duration()?),
                Kind::Mode => quote!(given.mode()?),
                Kind::Rate => quote!(given.parsed()?),
                Kind::Networks | Kind::Proxies => quote!(given.list()?),
                Kind::Text(_) => quote!(given.text()?),
                Kind::Texts(_) => quote!(given.texts()?),
                Kind::Path(_) | Kind::Name(_) => unreachable!("an option is data"),
            };
            let value = if key.is_optional() { quote!(::core::option::Option::Some(#value)) } else { value };
            quote!(|options, given| { #place = #value; ::core::option::Option::Some(()) })
        });
        let set = match set {
            Some(set) => quote!(::core::option::Option::Some(#set)),
            None => quote!(::core::option::Option::None),
        };
        quote!(Key { group: #group, name: #name, takes: #expected, set: #set })
    });
    quote!([#(#keys),*])
}

/// `[(path, whether it is given, groups, why)]`: it needs one of these groups.
pub(crate) fn dependent_options(options: &TokenStream) -> TokenStream {
    let dependent = keys().filter_map(|(group, key)| {
        let (groups, because) = key.needs?;
        let path = path(group, key);
        let value = field(group, key.name, options);
        let default = field(group, key.name, &quote!(Options::new()));
        Some(quote!((#path, #value != #default, &[#(#groups),*] as &[&str], #because)))
    });
    quote!([#(#dependent),*])
}

/// The keys of the attributes, each with the field of `Options` that has those of its group. `#[request_handler]` has all
/// settings of a handler.
fn keys() -> impl Iterator<Item = (&'static str, &'static Key)> {
    let of_server = keys::SERVER.groups.iter().flat_map(|group| group.keys.iter().map(move |key| (group.name, key)));
    let of_handler = keys::REQUEST_HANDLER.groups.iter().flat_map(|group| group.keys);
    let is_setting = |key: &&Key| matches!(key.sets, Target::Context { .. });
    of_server.chain(of_handler.filter(is_setting).map(|key| ("handler", key)))
}

impl Key {
    /// Whether `Options` has a field for it.
    fn is_option(&self) -> bool {
        matches!(self.sets, Target::Option { .. } | Target::Context { .. })
    }

    /// Whether the field is an `Option`. What a handler's attribute says is replaced only where the options say it too.
    fn is_optional(&self) -> bool {
        matches!(self.sets, Target::Option { is_optional: true } | Target::Context { .. })
    }
}

fn path(group: &str, key: &Key) -> String {
    if group.is_empty() { key.name.to_owned() } else { format!("{group}.{}", key.name) }
}
