use super::value;
use crate::{
    attr::Setting,
    handler::{Field, Handler, OwnServer, Source},
    server::Server,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::{BTreeMap, BTreeSet};
use syn::{Generics, Path, parse_quote, parse_quote_spanned, spanned::Spanned};

pub(crate) fn handler(handler: &Handler) -> TokenStream {
    let implementations = match &handler.fields {
        Some(fields) => implementations(handler, fields),
        None => implementation(handler, &[], &quote!(_), &quote!(::core::unreachable!())),
    };
    let server = handler.server.as_ref().map(|server| own_server(handler, server));
    quote!(#implementations #server)
}

/// One; or, where fields have conditions, one for each outcome of them, since a bound cannot have a condition.
fn implementations(handler: &Handler, fields: &[Field]) -> TokenStream {
    let conditions = fields.iter().filter_map(|field| field.cfg.as_ref());
    let conditions: BTreeMap<String, &TokenStream> = conditions.map(|cfg| (cfg.to_string(), cfg)).collect();
    let implementations = (0..1_u64 << conditions.len()).map(|outcome| {
        let is_met = |cfg: &TokenStream| {
            let text = cfg.to_string();
            conditions.keys().zip(0..).all(|(condition, bit)| *condition != text || outcome >> bit & 1 == 0)
        };
        let conditions = conditions.values().map(|cfg| if is_met(cfg) { quote!(#cfg) } else { quote!(not(#cfg)) });
        let fields: Vec<&Field> = fields.iter().filter(|field| field.cfg.as_ref().is_none_or(is_met)).collect();
        let (cx, body) = construction(handler, &fields);
        let implementation = implementation(handler, &fields, &cx, &body);
        quote!(#(#[cfg(#conditions)])* #implementation)
    });
    implementations.collect()
}

fn implementation(handler: &Handler, fields: &[&Field], cx: &TokenStream, body: &TokenStream) -> TokenStream {
    let Handler { ident, krate, .. } = handler;
    let (_, ty_generics, _) = handler.generics.split_for_impl();
    let generics = generic_over_server(handler, fields);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::FromRequest<__S> for #ident #ty_generics #where_clause {
            fn from_request(#cx: &mut #krate::Context<'_, __S>) -> ::std::io::Result<Self> {
                #body
            }
        }
    }
}

/// With one bound for each type that is taken from the request, which the compiler reports on the type.
fn generic_over_server(handler: &Handler, fields: &[&Field]) -> Generics {
    let krate = &handler.krate;
    let mut generics = handler.generics.clone();
    generics.params.push(parse_quote!(__S: #krate::Server));
    let mut seen = BTreeSet::new();
    for ty in fields.iter().filter(|field| matches!(field.source, Source::Request)).map(|field| &field.ty) {
        if seen.insert(quote!(#ty).to_string()) {
            let krate = located(krate, ty.span());
            let bound = parse_quote_spanned!(ty.span()=> #ty: #krate::FromRequest<__S>);
            generics.make_where_clause().predicates.push(bound);
        }
    }
    generics
}

/// The path as it resolves here, seen elsewhere.
fn located(path: &Path, span: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(span));
        token
    });
    tokens.collect()
}

/// The name of the context, which is hidden from the expressions of the fields, and how a handler is made from it.
fn construction(handler: &Handler, fields: &[&Field]) -> (TokenStream, TokenStream) {
    let cx = Ident::new("cx", Span::mixed_site());
    let settings = handler.settings.iter().filter(|setting| setting.key.name != "crate");
    let settings = settings.filter_map(|Setting { key, value: given, .. }| {
        let given = value(given.as_ref()?, &handler.krate);
        let set = format_ident!("set_{}", key.name);
        let fallible = (key.name == "timeout").then(|| quote!(?));
        Some(quote!(#cx.#set(#given)#fallible;))
    });
    let settings: Vec<TokenStream> = settings.collect();
    let is_used = !settings.is_empty() || fields.iter().any(|field| matches!(field.source, Source::Request));
    let names = fields.iter().map(|field| &field.ident);
    let values = fields.iter().map(|field| initial_value(field, &cx, &handler.krate));
    let value = match fields.first() {
        Some(Field { ident: None, .. }) => quote!(Self(#(#values),*)),
        _ => quote!(Self { #(#names: #values),* }),
    };
    let body = quote!(#(#settings)* ::core::result::Result::Ok(#value));
    (if is_used { quote!(#cx) } else { quote!(_) }, body)
}

fn initial_value(field: &Field, cx: &Ident, krate: &Path) -> TokenStream {
    let ty = &field.ty;
    match &field.source {
        Source::Request => quote!(<#ty as #krate::FromRequest<__S>>::from_request(#cx)?),
        Source::Default => quote_spanned!(ty.span()=> ::core::default::Default::default()),
        Source::Expression(expression) => expression.clone(),
    }
}

fn own_server(handler: &Handler, server: &OwnServer) -> TokenStream {
    let krate = &handler.krate;
    let OwnServer { vis, ident, attribute } = server;
    let doc = format!(" The server that answers every request with a new `{}`.", handler.ident);
    let (derive, stand_in) = match attribute {
        Some(_) => (Some(quote!(#krate::Server)), None),
        None => {
            let unknown = Server { ident, generics: &Generics::default(), settings: Vec::new() };
            (None, Some(super::server(&unknown)))
        }
    };
    quote! {
        #[doc = #doc]
        #[derive(
            ::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug, ::core::default::Default, #derive
        )]
        #attribute
        #vis struct #ident;
        #stand_in
    }
}
