use super::{at, path_at, refusals, value};
use crate::{
    attribute::ContextCall,
    handler::{self, Field, Handler, MailboxField, OwnServer, Source},
    value::Value,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use std::collections::BTreeSet;
use syn::{Generics, Path, Type, TypePath, Visibility, parse_quote, parse_quote_spanned, spanned::Spanned};

pub(crate) fn handler(handler: &Handler) -> TokenStream {
    let implementations = match &handler.fields {
        Some(fields) => implementations(handler, fields),
        None => implementation(handler, None, &[], &quote!(_), &quote!(::core::unreachable!())),
    };
    let messages = handler.framing.as_ref().map(|framing| messages(handler, framing));
    let server = handler.server.as_ref().map(|server| own_server(handler, server));
    quote!(#implementations #messages #server)
}

/// What makes a message handler of the struct.
fn messages(handler: &Handler, framing: &Value) -> TokenStream {
    let Handler { ident, krate, conditions, allowed, generics, .. } = handler;
    let framing = value(framing, krate);
    let mut generics = generics.clone();
    if !generics.params.is_empty() {
        generics.make_where_clause().predicates.push(match handler.mailbox {
            None => parse_quote!(Self: #krate::MessageHandler),
            Some(_) => parse_quote!(Self: #krate::MailHandler),
        });
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let (_, _, own_where_clause) = handler.generics.split_for_impl();
    let mailbox = handler.mailbox.as_ref().map(|MailboxField { member, ty }| {
        quote! {
            #(#conditions)*
            #[automatically_derived]
            #(#allowed)*
            impl #impl_generics #krate::HasMailbox<#ty> for #ident #ty_generics #own_where_clause {
                fn mailbox(&mut self) -> &mut #ty {
                    &mut self.#member
                }
            }
        }
    });
    let place = at(ident.span());
    let frames = matches!(handler.framing, Some(Value::Path(_))).then(|| {
        let place = at(framing.span());
        let krate = path_at(krate, place);
        quote_spanned!(place=> #krate::__private::is_framing::<#framing>();)
    });
    let mut name = ident.clone();
    name.set_span(place);
    let (runner, handles) = match &handler.mailbox {
        None => (quote!(MessageLoop), quote_spanned!(place=> #krate::__private::is_message_handler::<#name>();)),
        Some(_) => (quote!(MailLoop), quote_spanned!(place=> #krate::__private::is_mail_handler::<#name>();)),
    };
    let mut runner = quote_spanned!(place=> #krate::#runner<Self, #framing>);
    if generics.params.is_empty() {
        // One error for a struct that does not implement the trait: see `server::handler`.
        runner = quote_spanned! {place=> #krate::__private::Fitting<#runner, {
            #handles
            #frames
            true
        }>};
    }
    // The place of the framing, which may be private where the handler is public.
    let runner = quote_spanned!(at(framing.span())=> type Runner = #runner;);
    quote! {
        #(#conditions)*
        #[automatically_derived]
        #(#allowed)*
        impl #impl_generics #krate::Handler for #ident #ty_generics #where_clause {
            #runner

            const HANDLES_MESSAGES: ::core::primitive::bool = true;

            fn into_messages(
                runner: Self::Runner,
            ) -> ::core::result::Result<::std::boxed::Box<dyn #krate::__private::Messages>, Self::Runner> {
                ::core::result::Result::Ok(::std::boxed::Box::new(runner))
            }
        }
        #mailbox
    }
}

/// One; or, where fields have a condition, one for each outcome of it, since a bound cannot have a condition.
fn implementations(handler: &Handler, fields: &[Field]) -> TokenStream {
    let outcomes: &[Option<bool>] = if handler.condition.is_some() { &[Some(true), Some(false)] } else { &[None] };
    let implementations = outcomes.iter().map(|outcome| {
        let is_there = |field: &&Field| field.only_if.is_none() || field.only_if == *outcome;
        let fields: Vec<&Field> = fields.iter().filter(is_there).collect();
        let condition = outcome.zip(handler.condition.as_ref());
        let condition = condition.map(|(is_met, condition)| handler::outcome(condition, is_met));
        let (cx, body) = construction(handler, &fields);
        implementation(handler, condition, &fields, &cx, &body)
    });
    implementations.collect()
}

/// A constant, as it is written in an item within the impl.
fn constant(call: &ContextCall, handler: &Handler) -> Option<TypePath> {
    let Value::Constant(path) = &call.value.value else { return None };
    let mut path = path.clone();
    let of_type = path.qself.as_mut().and_then(|qself| match &mut *qself.ty {
        Type::Path(ty) => Some(&mut ty.path),
        _ => None,
    });
    for segment in of_type.into_iter().chain([&mut path.path]).filter_map(|path| path.segments.first_mut()) {
        if segment.ident == "Self" {
            segment.ident = handler.ident.clone();
        }
    }
    Some(path)
}

fn implementation(
    handler: &Handler,
    condition: Option<TokenStream>,
    fields: &[&Field],
    cx: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let Handler { ident, krate, conditions, allowed, .. } = handler;
    let (_, ty_generics, _) = handler.generics.split_for_impl();
    let generics = generic_over_server(handler, fields);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let condition = condition.into_iter();
    let shares = fields
        .iter()
        .filter(|field| matches!(field.source, Source::Request))
        .map(|Field { ty, .. }| quote!(<#ty as #krate::FromRequest<__S>>::NEEDS_SHARED_MEMORY));
    let shares: Vec<TokenStream> = shares.collect();
    let shares =
        (!shares.is_empty()).then(|| quote!(const NEEDS_SHARED_MEMORY: ::core::primitive::bool = #(#shares)||*;));
    // A default may never return, like `todo!()`.
    let diverges = fields.iter().any(|field| matches!(field.source, Source::Expression(_)));
    let diverges = diverges.then(|| quote!(#[allow(unreachable_code)]));
    quote! {
        #(#conditions)*
        #(#[cfg(#condition)])*
        #[automatically_derived]
        #(#allowed)*
        impl #impl_generics #krate::FromRequest<__S> for #ident #ty_generics #where_clause {
            #shares
            #diverges
            fn from_request(#cx: &mut #krate::Context<'_, __S>) -> ::std::io::Result<Self> {
                #body
            }
        }
    }
}

/// With one bound for each type that is taken from the request, which the compiler reports on the type.
fn generic_over_server(handler: &Handler, fields: &[&Field]) -> Generics {
    let mut generics = handler.generics.clone();
    let krate = &handler.krate;
    generics.params.push(parse_quote!(__S: #krate::Server));
    let mut seen = BTreeSet::new();
    for ty in fields.iter().filter(|field| matches!(field.source, Source::Request)).map(|field| &field.ty) {
        if seen.insert(quote!(#ty).to_string()) {
            let krate = path_at(krate, ty.span());
            let bound = parse_quote_spanned!(at(ty.span())=> #ty: #krate::FromRequest<__S>);
            generics.make_where_clause().predicates.push(bound);
        }
    }
    generics
}

/// The name of the context, which is hidden from the expressions of the fields, and how a handler is made from it.
fn construction(handler: &Handler, fields: &[&Field]) -> (TokenStream, TokenStream) {
    let cx = Ident::new("cx", Span::mixed_site());
    let calls = handler.calls.iter().map(|call| self::call(call, &cx, handler));
    let calls: Vec<TokenStream> = calls.collect();
    let is_used = !calls.is_empty() || fields.iter().any(|field| matches!(field.source, Source::Request));
    let names = fields.iter().map(|field| &field.ident);
    let values = fields.iter().map(|field| initial_value(field, &cx, &handler.krate));
    let value = match fields.first() {
        Some(Field { ident: None, .. }) => quote!(Self(#(#values),*)),
        _ => quote!(Self { #(#names: #values),* }),
    };
    let body = quote!(#(#calls)* ::core::result::Result::Ok(#value));
    (if is_used { quote!(#cx) } else { quote!(_) }, body)
}

/// In a generic impl the value of a constant is known where the impl is used. Elsewhere the user's path is written once, so
/// that a constant of a wrong type is one error.
fn call(call: &ContextCall, cx: &Ident, handler: &Handler) -> TokenStream {
    let set = format_ident!("set_{}", call.name);
    let fallible = call.is_fallible.then(|| quote!(?));
    let krate = &handler.krate;
    match constant(call, handler) {
        Some(path) if handler.generics.params.is_empty() && !call.value.refused.is_empty() => {
            // The others are numbers of bytes or mails.
            let ty = match call.value.measure {
                Some(_) => quote!(::core::time::Duration),
                None => quote!(::core::primitive::usize),
            };
            let refusals = refusals(&call.value, &quote!(__VALUE), false, krate);
            quote!(#cx.#set({
                const __VALUE: #ty = #path;
                #(const _: () = #refusals;)*
                __VALUE
            })#fallible;)
        }
        _ => {
            let given = value(&call.value.value, krate);
            let refusals = refusals(&call.value, &given, false, krate);
            quote!(#(const { #refusals };)* #cx.#set(#given)#fallible;)
        }
    }
}

fn initial_value(field: &Field, cx: &Ident, krate: &Path) -> TokenStream {
    let ty = &field.ty;
    match &field.source {
        Source::Request => quote!(<#ty as #krate::FromRequest<__S>>::from_request(#cx)?),
        Source::Default => quote!(<#ty as ::core::default::Default>::default()),
        Source::Expression(expression) => expression.clone(),
    }
}

fn own_server(handler: &Handler, own: &OwnServer) -> TokenStream {
    let conditions = &handler.conditions;
    let OwnServer { vis, server } = own;
    let ident = &server.ident;
    let doc = format!(" The server that makes a new `{}` for each request.", handler.ident);
    let implementation = super::server(server);
    // It has nothing that could be added to.
    let exhaustive = (!matches!(vis, Visibility::Inherited)).then(|| quote!(#[allow(clippy::exhaustive_structs)]));
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #exhaustive
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug, ::core::default::Default)]
        #vis struct #ident;
        #implementation
    }
}
