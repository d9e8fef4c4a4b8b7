//! `#[request_handler]`: its grammar, and the model of a handler.

use crate::{
    attr::{self, Grammar, Group, Key, Setting},
    errors::Errors,
    expand, server,
    value::Takes,
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeSet;
use syn::{
    Attribute, Data, DeriveInput, GenericArgument, GenericParam, Generics, Lifetime, Meta, Path, PathArguments, Token,
    Type, Visibility,
    parse::{ParseStream, Parser},
    parse_quote,
    punctuated::Punctuated,
};

pub(crate) static GRAMMAR: Grammar = Grammar {
    name: "request_handler",
    groups: &[Group {
        name: "",
        keys: &[
            Key::new("timeout", Takes::Duration).not_zero("leave the key out for no timeout"),
            Key::new("rbufsize", Takes::Size).not_zero("a reader needs a buffer"),
            Key::new("wbufsize", Takes::Size),
            Key::new("max_line", Takes::Size).not_zero("no line would fit"),
            Key::new("crate", Takes::Path("framework::sockserver")),
        ],
    }],
    python: &[("disable_nagle_algorithm", "it is `#[server(socket(nodelay = …))]`")],
    other: &server::GRAMMAR,
};

const OWNED: &str = "a request handler owns what it has: hold a `String`, a `Vec<u8>` or an `Arc`";

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut input = match parse_item.parse2(item.clone()) {
        Ok(input) => input,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#item #error);
        }
    };
    let mut errors = Errors::default();
    let handler = Handler::take(arguments, &mut input, &mut errors);
    let expanded = expand::handler(&handler);
    quote!(#input #expanded #errors)
}

fn parse_item(input: ParseStream<'_>) -> syn::Result<DeriveInput> {
    let ahead = input.fork();
    ahead.call(Attribute::parse_outer)?;
    ahead.parse::<Visibility>()?;
    if ahead.peek(Token![struct]) || ahead.peek(Token![enum]) || ahead.peek(Token![union]) {
        input.parse()
    } else {
        Err(ahead.error("a request handler is a struct, whose fields say what it takes from a request"))
    }
}

pub(crate) struct Handler {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) krate: Path,
    pub(crate) settings: Vec<Setting>,
    /// None if no value can be built. An error that says why has been reported.
    pub(crate) fields: Option<Vec<Field>>,
    pub(crate) server: Option<OwnServer>,
}

pub(crate) struct Field {
    pub(crate) ident: Option<Ident>,
    pub(crate) ty: Type,
    /// The condition of its `#[cfg(…)]`.
    pub(crate) cfg: Option<TokenStream>,
    pub(crate) source: Source,
}

pub(crate) enum Source {
    Request,
    Default,
    Expression(TokenStream),
}

/// The server that `#[server(…)]` on a handler asks for.
pub(crate) struct OwnServer {
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    /// None if the server cannot be described. An error that says why has been reported.
    pub(crate) attribute: Option<Attribute>,
}

impl Handler {
    /// Takes out of the item what is not to be emitted again.
    fn take(arguments: TokenStream, item: &mut DeriveInput, errors: &mut Errors) -> Handler {
        let settings = attr::parse(arguments, &GRAMMAR, errors).settings;
        let fields = take_fields(item, errors);
        let mut krate = attr::krate(&settings).cloned();
        let server = take_server(item, &mut krate, errors);
        Handler {
            ident: item.ident.clone(),
            generics: item.generics.clone(),
            krate: krate.unwrap_or_else(|| parse_quote!(::sockserver)),
            settings,
            fields,
            server,
        }
    }
}

/// None if no value can be built of them.
fn take_fields(item: &mut DeriveInput, errors: &mut Errors) -> Option<Vec<Field>> {
    let borrows = item.generics.lifetimes().next().is_some();
    for parameter in item.generics.lifetimes() {
        errors.at(&parameter.lifetime, format!("{OWNED} in place of a reference, without a lifetime"));
    }
    let (keyword, kind) = match &mut item.data {
        Data::Struct(data) => {
            let fields: Vec<Option<Field>> = data.fields.iter_mut().map(|field| take_field(field, errors)).collect();
            let fields: Vec<Field> = fields.into_iter().collect::<Option<_>>()?;
            return (!borrows && are_conditions_few(&fields, errors)).then_some(fields);
        }
        Data::Enum(data) => (data.enum_token.span, "enum"),
        Data::Union(data) => (data.union_token.span, "union"),
    };
    errors.push(syn::Error::new(keyword, format!("a request handler is a struct: put the {kind} into a field of one")));
    None
}

/// Each condition doubles the number of impls.
const MOST_CONDITIONS: usize = 8;

fn are_conditions_few(fields: &[Field], errors: &mut Errors) -> bool {
    let mut seen = BTreeSet::new();
    let mut conditions = fields.iter().filter_map(|field| field.cfg.as_ref());
    let excess = conditions.find(|cfg| seen.insert(cfg.to_string()) && seen.len() > MOST_CONDITIONS);
    if let Some(excess) = excess {
        errors.at(
            excess,
            format!(
                "the fields of a request handler have at most {MOST_CONDITIONS} different conditions: move some of \
                 them into a struct with a `#[request_handler]` of its own, which can be a field of this one"
            ),
        );
    }
    excess.is_none()
}

fn take_field(field: &mut syn::Field, errors: &mut Errors) -> Option<Field> {
    let is_readable = refuse_conditional(field, errors);
    let mut defaults = field.attrs.extract_if(.., |attribute| attribute.path().is_ident("default"));
    let source = match defaults.next() {
        Some(attribute) => default(&attribute, errors),
        None => Some(Source::Request),
    };
    for attribute in defaults {
        errors.at(attribute, "a second default of one field");
    }
    let borrows = make_owned(&mut field.ty, errors);
    let conditions = field.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let mut conditions = conditions.filter_map(|attribute| attribute.meta.require_list().ok()).map(|list| &list.tokens);
    let cfg = match (conditions.next(), conditions.next()) {
        (Some(first), Some(second)) => Some(quote!(all(#first, #second #(, #conditions)*))),
        (only, _) => only.cloned(),
    };
    let source = source.filter(|_| is_readable && !borrows)?;
    Some(Field { ident: field.ident.clone(), ty: field.ty.clone(), cfg, source })
}

/// Takes out the attributes that say under a condition what the macro has to know, and reports them.
fn refuse_conditional(field: &mut syn::Field, errors: &mut Errors) -> bool {
    let refused = field.attrs.extract_if(.., |attribute| hides(attribute, "default") || hides(attribute, "cfg"));
    let mut is_readable = true;
    for attribute in refused {
        let instead = if hides(&attribute, "default") {
            "write the field twice, under `#[cfg(…)]` with the default and under `#[cfg(not(…))]` without"
        } else {
            "write both conditions in one `#[cfg(any(not(…), …))]`"
        };
        errors.at(attribute, format!("a macro does not know the outcome of a condition: {instead}"));
        is_readable = false;
    }
    is_readable
}

/// Whether a `#[cfg_attr(…)]` has such an attribute.
fn hides(attribute: &Attribute, name: &str) -> bool {
    attribute.path().is_ident("cfg_attr")
        && attribute
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|metas| metas.iter().skip(1).any(|meta| meta.path().is_ident(name)))
}

fn default(attribute: &Attribute, errors: &mut Errors) -> Option<Source> {
    match &attribute.meta {
        Meta::Path(_) => return Some(Source::Default),
        Meta::List(list) if !list.tokens.is_empty() => return Some(Source::Expression(list.tokens.clone())),
        _ => errors.at(attribute, "write `#[default]` for the default of the type, or a value like `#[default(1)]`"),
    }
    None
}

/// Reports what is borrowed in a type, and makes it `'static` so that the compiler has no second word on it.
fn make_owned(ty: &mut Type, errors: &mut Errors) -> bool {
    let is_elided = |lifetime: &Lifetime| lifetime.ident == "_";
    let mut borrows = false;
    match ty {
        Type::Reference(reference) if reference.lifetime.as_ref().is_none_or(is_elided) => {
            errors.at(reference.and_token, format!("{OWNED} in place of a reference"));
            reference.lifetime = Some(parse_quote!('static));
            borrows = true;
        }
        Type::Array(array) => borrows = make_owned(&mut array.elem, errors),
        Type::Group(group) => borrows = make_owned(&mut group.elem, errors),
        Type::Paren(paren) => borrows = make_owned(&mut paren.elem, errors),
        Type::Slice(slice) => borrows = make_owned(&mut slice.elem, errors),
        Type::Tuple(tuple) => {
            for ty in &mut tuple.elems {
                borrows |= make_owned(ty, errors);
            }
        }
        Type::Path(path) => {
            for segment in &mut path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &mut segment.arguments else { continue };
                for argument in &mut arguments.args {
                    match argument {
                        GenericArgument::Type(ty) => borrows |= make_owned(ty, errors),
                        GenericArgument::Lifetime(lifetime) if is_elided(lifetime) => {
                            errors.at(&*lifetime, format!("{OWNED} in place of what is borrowed"));
                            *lifetime = parse_quote!('static);
                            borrows = true;
                        }
                        _ => {}
                    }
                }
            }
        }
        _ => {}
    }
    borrows
}

/// Both attributes may say where the runtime crate is: what one says is used for all.
fn take_server(item: &mut DeriveInput, krate: &mut Option<Path>, errors: &mut Errors) -> Option<OwnServer> {
    let mut attributes = item.attrs.extract_if(.., |attribute| attribute.path().is_ident("server"));
    let attribute = attributes.next()?;
    for attribute in attributes {
        errors.at(attribute.path(), "a second `#[server(…)]`: write all of it in one");
    }
    // Lints on the name, which is not the user's, are not for the user.
    let span = Span::call_site().located_at(item.ident.span());
    let ident = format_ident!("{}Server", item.ident, span = span);
    drop_derive(&mut item.attrs, &ident, errors);

    let settings = server::parse(&attribute, &mut Errors::default());
    let mut added = TokenStream::new();
    match (&krate, attr::krate(&settings)) {
        (Some(path), None) => added.extend(quote!(crate = #path,)),
        (None, given) => *krate = given.cloned(),
        (Some(_), Some(_)) => {}
    }
    let handler = &item.ident;
    match settings.iter().find(|setting| setting.key.name == "handler") {
        None => added.extend(quote!(handler = #handler,)),
        Some(setting) if setting.value.is_some() => errors.at(
            &setting.word,
            format!(
                "the handler is this struct, `{handler}`: leave the key out, or derive `Server` for another struct"
            ),
        ),
        // The derive of the server reports it.
        Some(_) => {}
    }
    let mut server = OwnServer { vis: item.vis.clone(), ident, attribute: None };
    if let Some(parameter) = item.generics.params.first() {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            let name = &server.ident;
            errors.at(
                parameter,
                format!(
                    "a server is of one type, `{handler}` of many: move the attribute to a struct of your own, \
                     `#[derive(Server)] #[server(…, handler = {handler}<…>)] struct {name};`"
                ),
            );
        }
        return Some(server);
    }
    let path = attribute.path();
    server.attribute = Some(match &attribute.meta {
        Meta::List(list) => {
            let given = &list.tokens;
            parse_quote!(#[#path(#added #given)])
        }
        Meta::Path(_) => parse_quote!(#[#path(#added)]),
        Meta::NameValue(_) => attribute,
    });
    Some(server)
}

/// Deriving `Server` as well would ask for a second server of the attribute that was taken.
fn drop_derive(attributes: &mut [Attribute], server: &Ident, errors: &mut Errors) {
    for attribute in attributes.iter_mut().filter(|attribute| attribute.path().is_ident("derive")) {
        let Ok(derives) = attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated) else { continue };
        let is_server = |path: &&Path| path.segments.last().is_some_and(|segment| segment.ident == "Server");
        let (servers, others): (Vec<&Path>, Vec<&Path>) = derives.iter().partition(is_server);
        for path in servers {
            errors.at(
                path,
                format!(
                    "`#[request_handler]` above `#[server(…)]` writes the server, `{server}`: derive no second one"
                ),
            );
        }
        *attribute = parse_quote!(#[derive(#(#others),*)]);
    }
}
