//! The model of a server, which `#[server(…)]` describes.

use crate::{
    attribute::{self, Attribute, Hook, OptionValue, TypeSetting},
    composition,
    errors::Errors,
    keys,
    suggest::listed,
    tls,
    value::Value,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::ToTokens;
use std::collections::HashSet;
use syn::{DeriveInput, Generics, Meta, Path, Type, TypePath, parse_quote};

/// What is known of a server. What is not has an error of its own and is stood in for.
pub(crate) struct Server {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) krate: Path,
    /// The transport and the handler. None if one of the two is not known.
    pub(crate) serves: Option<(Value, TypePath)>,
    pub(crate) concurrency: Option<Value>,
    pub(crate) options: Vec<OptionValue>,
    pub(crate) hooks: Vec<Hook>,
    /// The `#[cfg(…)]` attributes of the struct, for all that is written beside it.
    pub(crate) conditions: Vec<syn::Attribute>,
    /// See [`allowed_in`].
    pub(crate) allowed: Vec<syn::Attribute>,
    /// The fields that the handler takes from a request, where the macro sees them.
    pub(crate) takes: Vec<TakenField>,
    /// The macro sees that the handler is a message handler.
    pub(crate) frames: bool,
    /// The traits of the runtime crate that say what the server's connections have.
    pub(crate) marks: Vec<&'static str>,
}

/// A field that is taken from the request.
pub(crate) struct TakenField {
    pub(crate) ty: Type,
    pub(crate) condition: Option<TokenStream>,
}

impl Server {
    /// The server of `#[derive(Server)]`.
    pub(crate) fn of_derive(input: &DeriveInput, errors: &mut Errors) -> Server {
        let attributes = input.attrs.iter().filter(|attribute| attribute.path().is_ident("server"));
        let attributes: Vec<&syn::Attribute> = attributes.collect();
        let attribute = match attributes.first() {
            Some(first) => {
                let mut said = parse(attributes.iter().copied(), errors);
                require_all(&mut said, first.path(), errors);
                said
            }
            None => {
                errors.push(syn::Error::new(
                    Span::call_site(),
                    "a server is described by an attribute on the struct, like \
                 `#[server(transport = \"tcp\", concurrency = \"threading\", handler = Session)]`",
                ));
                Attribute::default()
            }
        };
        if let Some((word, _)) = &attribute.server_name {
            errors.at(
                word,
                format!(
                    "`name` names the server that `#[request_handler]` writes: this struct is the server, and its name \
                 `{}`",
                    input.ident
                ),
            );
        }
        let mut server = Server::new(input.ident.clone(), input.generics.clone(), attribute);
        server.allowed = allowed_in(&input.attrs);
        server
    }

    pub(crate) fn new(ident: Ident, generics: Generics, said: Attribute) -> Server {
        let behind_proxy = said.group("proxy").map(|_| "BehindProxy");
        let marks = behind_proxy.into_iter().chain(tls::marks(&said)).collect();
        let handler = match said.handler {
            TypeSetting::Value { value: Value::Path(handler), .. } => Some(handler),
            _ => None,
        };
        Server {
            ident,
            generics,
            krate: said.krate.unwrap_or_else(|| parse_quote!(::sockserver)),
            serves: said.transport.into_value().zip(handler),
            concurrency: said.concurrency.into_value(),
            options: said.options,
            hooks: said.hooks,
            conditions: Vec::new(),
            allowed: Vec::new(),
            takes: Vec::new(),
            frames: false,
            marks,
        }
    }
}

/// The lints that an item with these attributes allows, for the code that is written beside it. If the item or a part of it
/// is deprecated, that code may use what is deprecated.
pub(crate) fn allowed_in<'a>(attributes: impl IntoIterator<Item = &'a syn::Attribute>) -> Vec<syn::Attribute> {
    let allowed = attributes.into_iter().filter_map(|attribute| match &attribute.meta {
        // An `expect` would have to be fulfilled once more.
        Meta::List(list) if list.path.is_ident("allow") || list.path.is_ident("expect") => {
            let lints = &list.tokens;
            Some(parse_quote!(#[allow(#lints)]))
        }
        meta if meta.path().is_ident("deprecated") => Some(parse_quote!(#[allow(deprecated)])),
        _ => None,
    });
    let mut seen = HashSet::new();
    allowed.filter(|attribute: &syn::Attribute| seen.insert(attribute.to_token_stream().to_string())).collect()
}

/// What `#[server(…)]` says. A second one is an error, and is read as a part of the first.
pub(crate) fn parse<'a>(attributes: impl Iterator<Item = &'a syn::Attribute>, errors: &mut Errors) -> Attribute {
    let mut parts = Vec::new();
    for (index, attribute) in attributes.enumerate() {
        if index > 0 {
            errors.at(attribute.path(), "a second `#[server(…)]`: write all of it in one");
        }
        match &attribute.meta {
            Meta::List(list) => parts.push(list.tokens.clone()),
            Meta::Path(_) => {}
            Meta::NameValue(_) => {
                errors.at(attribute.path(), "expected `#[server(…)]`");
                return Attribute { unknown: vec![""], ..Attribute::default() };
            }
        }
    }
    let said = attribute::parse(parts, &keys::SERVER, errors);
    composition::check(&said.rules, said.transport.value(), said.concurrency.value(), errors);
    // A group whose name is misspelt may be the one that is needed.
    let is_given =
        |group: &&str| said.group(group).is_some() || said.has_unknown() || *group == "tls" && tls::has_hook(&said);
    for (word, groups, because) in said.needs.iter().filter(|(_, groups, _)| !groups.iter().any(is_given)) {
        let groups = listed(groups.iter().map(|group| format!("{group}(…)")), "or");
        errors.at(word, format!("`{word}` means nothing without {groups}: {because}"));
    }
    tls::check(&said, errors);
    said
}

/// Reports the transport or the concurrency as missing, unless an unknown word may have been meant for it.
pub(crate) fn require_composition(said: &Attribute, place: impl ToTokens, errors: &mut Errors) {
    let types = [
        ("transport", &said.transport, &composition::TRANSPORT),
        ("concurrency", &said.concurrency, &composition::CONCURRENCY),
    ];
    for (key, given, words) in types {
        if let (TypeSetting::Missing, false) = (given, said.has_unknown()) {
            let words = words.listed();
            errors.at(&place, format!("`{key}` is missing: it is {words}, or the path of a type of your own"));
        }
    }
}

fn require_all(said: &mut Attribute, place: impl ToTokens, errors: &mut Errors) {
    const INSTEAD: &str = "name the type that handles a request, like `handler = Session`, or make this struct the handler: \
                           write `#[request_handler]` above `#[server(…)]` in place of deriving `Server`";
    require_composition(said, &place, errors);
    match &said.handler {
        TypeSetting::Missing if !said.has_unknown() => errors.at(&place, format!("`handler` is missing: {INSTEAD}")),
        TypeSetting::Value { value: Value::Path(path), .. } if path.path.is_ident("Self") => {
            errors.at(path, format!("`Self` is the server: {INSTEAD}"));
            said.handler = TypeSetting::Wrong;
        }
        _ => {}
    }
}
