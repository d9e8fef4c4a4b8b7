use super::{at, path_at, refusals, value};
use crate::{
    attribute::Hook,
    composition::EVENT_LOOP,
    keys::{Parameter, Returns},
    server::{Server, TakenField},
    value::Value,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Path, TypePath, parse_quote, spanned::Spanned};

pub(crate) fn server(server: &Server) -> TokenStream {
    let Server { ident, krate, .. } = server;
    let concurrency = server.concurrency.as_ref().map(|concurrency| value(concurrency, krate));
    let concurrency = concurrency.unwrap_or_else(|| quote!(#krate::concurrency::Synchronous));
    let (transport, handler) = match &server.serves {
        Some((transport, handler)) => (value(transport, krate), self::handler(server, handler)),
        None => (
            quote!(#krate::transport::AnyStream),
            quote!(
                type Handler = StandIn;
            ),
        ),
    };
    let options = options(server);
    // A hook may be written for the requests of another transport than the one that stands in.
    let hooks = server.serves.is_some().then(|| server.hooks.iter().map(|it| hook(it, krate)).collect::<TokenStream>());

    let mut generics = server.generics.clone();
    if !generics.params.is_empty() {
        let bound = parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(bound);
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let Server { conditions, allowed, .. } = server;
    let marks = server.marks.iter().map(|mark| {
        let mark = Ident::new(mark, Span::call_site());
        quote! {
            #(#conditions)*
            #[automatically_derived]
            #(#allowed)*
            impl #impl_generics #krate::#mark for #ident #ty_generics #where_clause {}
        }
    });
    let implementation = quote! {
        #(#marks)*
        #(#conditions)*
        #[automatically_derived]
        #(#allowed)*
        impl #impl_generics #krate::Server for #ident #ty_generics #where_clause {
            type Transport = #transport;
            type Concurrency = #concurrency;
            #handler
            const OPTIONS: #krate::Options = #options;
            #hooks
        }
    };
    match server.serves {
        Some(_) => {
            let options = quote!(<#ident as #krate::Server>::OPTIONS);
            let refusals = refusals_of(server, &options).filter(|_| server.generics.params.is_empty());
            let refusals = refusals.map(|refusal| quote!(#(#conditions)* #(#allowed)* const _: () = #refusal;));
            let unfit = refusal_of_handler(server);
            let shares = refusal_of_sharing(server);
            quote!(#implementation #(#refusals)* #unfit #shares)
        }
        None => stand_in(krate, &implementation),
    }
}

/// Refuses a request handler on an event loop. A server with parameters is refused when it is bound.
fn refusal_of_handler(server: &Server) -> Option<TokenStream> {
    let Server { ident, krate, conditions, allowed, .. } = server;
    let (_, handler) = server.serves.as_ref()?;
    match &server.concurrency {
        Some(Value::Word(_, choice)) if choice.word == EVENT_LOOP && server.generics.params.is_empty() => {}
        _ => return None,
    }
    let name = &handler.path.segments.last()?.ident;
    let words = format!(
        "`{name}` handles whole connections, which an event loop cannot wait in: make it a \
         `#[message_handler(framing = \"line\")]`, which implements `MessageHandler`, or use concurrency = \"threading\""
    );
    let krate = path_at(krate, at(handler.span()));
    Some(quote_spanned! {at(handler.span())=>
        #(#conditions)*
        #(#allowed)*
        const _: () = #krate::__private::refuse(!#krate::__private::handles_messages::<#ident>(), #words);
    })
}

/// Refuses a mailbox where requests have processes of their own. The macro sees the fields of a handler with a server beside
/// it, and has refused it then.
fn refusal_of_sharing(server: &Server) -> Option<TokenStream> {
    let Server { ident, krate, conditions, allowed, .. } = server;
    let (_, handler) = server.serves.as_ref()?;
    match &server.concurrency {
        Some(Value::Word(_, choice)) if choice.word != "forking" => return None,
        _ if !server.takes.is_empty() || !server.generics.params.is_empty() => return None,
        _ => {}
    }
    let name = &handler.path.segments.last()?.ident;
    let words = format!(
        "`{name}` has a mailbox, which is in the memory of one process, and this server has a process for each request: \
         use concurrency = \"threading\""
    );
    let krate = path_at(krate, at(handler.span()));
    Some(quote_spanned! {at(handler.span())=>
        #(#conditions)*
        #(#allowed)*
        const _: () = #krate::__private::refuse(#krate::__private::shares_in_vain::<#ident>(), #words);
    })
}

fn refusals_of(server: &Server, options: &TokenStream) -> impl Iterator<Item = TokenStream> {
    server.options.iter().flat_map(move |option| {
        let value = field(option.group, option.field, options);
        refusals(&option.value, &value, option.is_optional, &server.krate)
    })
}

pub(super) fn field(group: &str, field: &str, options: &TokenStream) -> TokenStream {
    let group = (!group.is_empty()).then(|| format_ident!("{}", group)).into_iter();
    let field = format_ident!("{}", field);
    quote!(#options #(.#group)* .#field)
}

/// The type of the handler. Where the macro sees the fields, it contains a constant that does not compile if the server's
/// requests lack one of them: the compiler reports each such field on its type. It reports nothing on the handler then,
/// because it reports no further error about a type whose constant has one.
fn handler(server: &Server, handler: &TypePath) -> TokenStream {
    let Server { ident, krate, takes, frames, .. } = server;
    if takes.is_empty() {
        return quote_spanned!(at(handler.span())=> type Handler = #handler;);
    }
    let fields = takes.iter().map(|TakenField { ty, condition }| {
        let condition = condition.iter();
        let krate = path_at(krate, ty.span());
        quote_spanned!(at(ty.span())=> #(#[cfg(#condition)])* let _ = <#ty as #krate::FromRequest<#ident>>::from_request;)
    });
    let krate = path_at(krate, handler.span());
    // That a message handler is one is checked beside it.
    let handles =
        (!frames).then(|| quote_spanned!(at(handler.span())=> let _ = <#handler as #krate::RequestHandler>::handle;));
    let fitting = quote_spanned!(at(handler.span())=> #krate::__private::Fitting<#handler, {
        #handles
        #(#fields)*
        true
    }>);
    quote! {
        #[cfg(doc)]
        type Handler = #handler;
        #[cfg(not(doc))]
        type Handler = #fitting;
    }
}

/// A handler for when none was named, or no transport, which the named one would have to fit.
fn stand_in(krate: &Path, implementation: &TokenStream) -> TokenStream {
    quote! {
        const _: () = {
            pub struct StandIn;
            #[diagnostic::do_not_recommend]
            impl #krate::RequestHandler for StandIn {
                fn handle(&mut self) -> #krate::HandlerResult {
                    ::core::unreachable!()
                }
            }
            #[diagnostic::do_not_recommend]
            impl<__S: #krate::Server> #krate::FromRequest<__S> for StandIn {
                fn from_request(_: &mut #krate::Context<'_, __S>) -> ::std::io::Result<Self> {
                    ::core::unreachable!()
                }
            }
            #implementation
        };
    }
}

/// In a generic impl the value of a constant is known where the impl is used.
fn options(server: &Server) -> TokenStream {
    let krate = &server.krate;
    if server.options.is_empty() {
        return quote!(#krate::Options::new());
    }
    let assignments = server.options.iter().map(|option| {
        let field = field(option.group, option.field, &quote!(options));
        let place = at(option.value.place());
        let given = value(&option.value.value, krate);
        let given = match option.is_optional {
            true => quote_spanned!(place=> ::core::option::Option::Some(#given)),
            false => given,
        };
        quote!(#field = #given;)
    });
    let options = quote!(options);
    let refusals = refusals_of(server, &options).filter(|_| !server.generics.params.is_empty());
    quote!({
        let mut options = #krate::Options::new();
        #(#assignments)*
        #(#refusals;)*
        options
    })
}

/// All of it has the place of the user's path, where a wrong signature is reported, with the right one: the type of a
/// function pointer is shown in full, a call that does not fit is not.
fn hook(hook: &Hook, krate: &Path) -> TokenStream {
    let Hook { name, signature, function } = hook;
    let place = function.path.segments.last().map_or_else(|| function.span(), |segment| segment.ident.span());
    let place = at(place);
    // The user's path may be that of a function `request`, which a parameter of the same hygiene would hide.
    let hidden = Span::mixed_site().located_at(place);
    let (names, types): (Vec<Ident>, Vec<TokenStream>) = signature
        .parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Handle => ("handle", quote!(#krate::ServerHandle)),
            Parameter::Request => ("request", quote!(#krate::Request<Self>)),
            Parameter::Error => ("error", quote!(#krate::HandlerError)),
            Parameter::ClientAddress => ("client_address", quote!(#krate::Address)),
            Parameter::Event => ("event", quote!(#krate::Event<'_>)),
        })
        .map(|(name, ty)| (Ident::new(name, hidden), ty))
        .unzip();
    let name = Ident::new(name, place);
    // The method may have a wider result than the user's function.
    let (result, of_method, widened): (Option<TokenStream>, _, Option<TokenStream>) = match signature.returns {
        Returns::Nothing => (None, None, None),
        Returns::NothingAsConstant => {
            let name = Ident::new(&name.to_string().to_uppercase(), place);
            return quote_spanned! {place=>
                const #name: ::core::option::Option<fn(&Self #(, &#types)*)> = {
                    let hook: fn(&Self #(, &#types)*) = #function;
                    ::core::option::Option::Some(hook)
                };
            };
        }
        Returns::Bool => {
            let result = quote_spanned!(place=> -> ::core::primitive::bool);
            (Some(result.clone()), Some(result), None)
        }
        #[cfg(feature = "tls")]
        Returns::Tls => (
            Some(quote_spanned!(place=> -> ::std::io::Result<#krate::Tls>)),
            Some(quote_spanned!(place=> -> ::std::io::Result<::core::option::Option<#krate::Tls>>)),
            Some(quote_spanned!(place=> .map(::core::option::Option::Some))),
        ),
    };
    quote_spanned! {place=>
        fn #name(&self #(, #names: &#types)*) #of_method {
            let hook: fn(&Self #(, &#types)*) #result = #function;
            hook(self #(, #names)*) #widened
        }
    }
}
