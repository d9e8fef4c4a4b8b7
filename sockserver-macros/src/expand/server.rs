use super::value;
use crate::{attr, attr::Setting, server::Server, value::Value};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Path, TypePath, parse_quote, spanned::Spanned};

pub(crate) fn server(server: &Server<'_>) -> TokenStream {
    let krate = attr::krate(&server.settings).cloned().unwrap_or_else(|| parse_quote!(::sockserver));
    let given = |key: &str| attr::value(&server.settings, key).map(|given| value(given, &krate));
    let concurrency = given("concurrency").unwrap_or_else(|| quote!(#krate::concurrency::Synchronous));
    let options = options(&server.settings, &krate);
    let known = given("transport").zip(given("handler"));
    let is_known = known.is_some();
    let (transport, handler) = known.unwrap_or_else(|| (quote!(#krate::transport::Tcp), quote!(StandIn)));
    let hooks = is_known.then(|| hooks(&server.settings, &krate));

    let ident = server.ident;
    let mut generics = server.generics.clone();
    if !generics.params.is_empty() {
        let bound = parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(bound);
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let implementation = quote! {
        #[automatically_derived]
        impl #impl_generics #krate::Server for #ident #ty_generics #where_clause {
            type Transport = #transport;
            type Concurrency = #concurrency;
            type Handler = #handler;
            const OPTIONS: #krate::Options = #options;
            #hooks
        }
    };
    if is_known { implementation } else { stand_in(&krate, &implementation) }
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

fn options(settings: &[Setting], krate: &Path) -> TokenStream {
    let is_option = |name: &str| !matches!(name, "transport" | "concurrency" | "handler" | "crate");
    let settings = settings.iter().filter(|setting| setting.group.name != "hooks" && is_option(setting.key.name));
    let assignments = settings.filter_map(|Setting { group, key, value: given, .. }| {
        let given = value(given.as_ref()?, krate);
        let given = if key.optional { quote!(::core::option::Option::Some(#given)) } else { given };
        let group = (!group.name.is_empty()).then(|| format_ident!("{}", group.name)).into_iter();
        let key = format_ident!("{}", key.name);
        Some(quote!(options #(.#group)* .#key = #given;))
    });
    let assignments: Vec<TokenStream> = assignments.collect();
    if assignments.is_empty() {
        quote!(#krate::Options::new())
    } else {
        quote!({
            let mut options = #krate::Options::new();
            #(#assignments)*
            options
        })
    }
}

fn hooks(settings: &[Setting], krate: &Path) -> TokenStream {
    let hooks = settings.iter().filter(|setting| setting.group.name == "hooks");
    hooks
        .filter_map(|setting| match &setting.value {
            Some(Value::Path(path)) => Some(hook(setting.key.name, path, krate)),
            _ => None,
        })
        .collect()
}

/// All of it has the span of the user's path, on which a wrong signature is reported, with the right one: the type of a
/// function pointer is shown in full, a call that does not fit is not.
fn hook(name: &str, path: &TypePath, krate: &Path) -> TokenStream {
    let span = path.path.segments.last().map_or_else(|| path.span(), |segment| segment.ident.span());
    let client_address = || ("client_address", quote!(#krate::Address));
    let (parameters, result) = match name {
        "server_activate" => (vec![("handle", quote!(#krate::ServerHandle))], None),
        "verify_request" => {
            (vec![("request", quote!(#krate::Request<Self>)), client_address()], Some(quote!(::core::primitive::bool)))
        }
        "handle_error" => (vec![("error", quote!(#krate::HandlerError)), client_address()], None),
        _ => (Vec::new(), None),
    };
    let name = Ident::new(name, span);
    let (parameters, types): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
    // The user's path may be that of a function `request`, which a parameter of the same hygiene would hide.
    let hidden = Span::mixed_site().located_at(span);
    let parameters: Vec<Ident> = parameters.into_iter().map(|name| Ident::new(name, hidden)).collect();
    let result = result.map(|ty| quote_spanned!(span=> -> #ty));
    quote_spanned! {span=>
        fn #name(&self #(, #parameters: &#types)*) #result {
            let hook: fn(&Self #(, &#types)*) #result = #path;
            hook(self #(, #parameters)*)
        }
    }
}
