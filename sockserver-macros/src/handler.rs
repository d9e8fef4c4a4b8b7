//! The model of a handler, which `#[request_handler]` or `#[message_handler]` makes of a struct.

use crate::{
    attribute::{self, Attribute, ContextCall, TypeSetting},
    composition,
    errors::Errors,
    keys::{self, Grammar},
    server::{self, Server, TakenField},
    value::Value,
};
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{
    Data, DeriveInput, GenericArgument, GenericParam, Generics, Lifetime, Member, Meta, Path, PathArguments, Token,
    Type, Visibility, parse::ParseStream, parse_quote, punctuated::Punctuated, spanned::Spanned,
};

const OWNED: &str = "a handler owns what it has: hold a `String`, a `Vec<u8>` or an `Arc`";

pub(crate) struct Handler {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) krate: Path,
    /// How the messages of a message handler are framed. None: it is a request handler.
    pub(crate) framing: Option<Value>,
    /// Of a message handler.
    pub(crate) mailbox: Option<MailboxField>,
    pub(crate) calls: Vec<ContextCall>,
    /// None if no value can be built. An error that says why has been reported.
    pub(crate) fields: Option<Vec<Field>>,
    /// The condition of the fields that have one.
    pub(crate) condition: Option<TokenStream>,
    /// The `#[cfg(…)]` attributes of the struct, for all that is written beside it.
    pub(crate) conditions: Vec<syn::Attribute>,
    /// See [`server::allowed_in`]: of the struct and its fields.
    pub(crate) allowed: Vec<syn::Attribute>,
    pub(crate) server: Option<OwnServer>,
}

pub(crate) struct Field {
    pub(crate) ident: Option<Ident>,
    pub(crate) ty: Type,
    /// The outcome of [`Handler::condition`] under which the field is there. None: it always is.
    pub(crate) only_if: Option<bool>,
    pub(crate) source: Source,
}

/// The field that is a mailbox.
pub(crate) struct MailboxField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
}

pub(crate) enum Source {
    Request,
    Default,
    Expression(TokenStream),
}

/// The server that `#[server(…)]` on a handler asks for.
pub(crate) struct OwnServer {
    pub(crate) vis: Visibility,
    pub(crate) server: Server,
}

pub(crate) fn parse_item(input: ParseStream<'_>) -> syn::Result<DeriveInput> {
    let ahead = input.fork();
    ahead.call(syn::Attribute::parse_outer)?;
    ahead.parse::<Visibility>()?;
    if ahead.peek(Token![struct]) || ahead.peek(Token![enum]) || ahead.peek(Token![union]) {
        input.parse()
    } else {
        Err(ahead.error("a handler is a struct, whose fields say what it takes from a request"))
    }
}

/// An item that is no handler, without the attributes that only a handler has: the compiler does not know them.
pub(crate) fn without_own_attributes(tokens: TokenStream) -> TokenStream {
    let is_own = |group: &Group| {
        let first = group.stream().into_iter().next();
        matches!(first, Some(TokenTree::Ident(name)) if name == "server" || name == "default")
    };
    let mut kept = Vec::new();
    for token in tokens {
        let TokenTree::Group(group) = token else {
            kept.push(token);
            continue;
        };
        if matches!(kept.last(), Some(TokenTree::Punct(mark)) if mark.as_char() == '#') && is_own(&group) {
            kept.pop();
            continue;
        }
        let mut inner = Group::new(group.delimiter(), without_own_attributes(group.stream()));
        inner.set_span(group.span());
        kept.push(inner.into());
    }
    kept.into_iter().collect()
}

impl Handler {
    /// Takes out of the item what is not to be emitted again.
    pub(crate) fn take(
        arguments: TokenStream,
        item: &mut DeriveInput,
        grammar: &'static Grammar,
        errors: &mut Errors,
    ) -> Handler {
        let said = attribute::parse([arguments], grammar, errors);
        refuse_second_attribute(item, grammar, errors);
        let framing = take_framing(&said, grammar, errors);
        refuse_conditional_parameters(item, errors);
        let (fields, condition) = match take_fields(item, grammar, errors) {
            Some((fields, condition)) => (Some(fields), condition),
            None => (None, None),
        };
        let fields_of_all = || fields.iter().flatten();
        let mailbox =
            fields_of_all().enumerate().find(|(_, field)| field.is("Mailbox")).map(|(index, field)| MailboxField {
                member: field.ident.clone().map_or(Member::from(index), Member::Named),
                ty: field.ty.clone(),
            });
        match framing {
            Some(_) => {
                refuse_readers(fields_of_all(), errors);
                refuse_mailboxes(fields_of_all(), errors);
            }
            None => refuse_second_reader(fields_of_all(), errors),
        }
        let conditions = item.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned();
        let conditions: Vec<syn::Attribute> = conditions.collect();
        let of_fields = match &item.data {
            Data::Struct(data) => data.fields.iter().flat_map(|field| &field.attrs).collect(),
            _ => Vec::new(),
        };
        let allowed = server::allowed_in(item.attrs.iter().chain(of_fields));
        let mut krate = said.krate.clone();
        let server = take_server(item, &said, grammar, mailbox.as_ref(), &mut krate, errors).map(|mut server| {
            server.server.frames = framing.is_some();
            server.server.conditions.clone_from(&conditions);
            server.server.allowed.clone_from(&allowed);
            server.server.takes =
                fields.iter().flatten().filter_map(|field| taken_by(field, condition.as_ref())).collect();
            server
        });
        Handler {
            ident: item.ident.clone(),
            generics: item.generics.clone(),
            krate: krate.unwrap_or_else(|| parse_quote!(::sockserver)),
            mailbox: mailbox.filter(|_| framing.is_some()),
            framing,
            calls: said.calls,
            fields,
            condition,
            conditions,
            allowed,
            server,
        }
    }
}

/// It would implement the same traits once more.
fn refuse_second_attribute(item: &mut DeriveInput, grammar: &Grammar, errors: &mut Errors) {
    let names = [keys::REQUEST_HANDLER.name, keys::MESSAGE_HANDLER.name];
    let is_second = |attribute: &mut syn::Attribute| {
        attribute.path().segments.last().is_some_and(|last| names.iter().any(|name| last.ident == name))
    };
    for attribute in item.attrs.extract_if(.., is_second) {
        errors.at(
            attribute.path(),
            format!("`#[{}]` above makes this struct a handler already: leave one of the two out", grammar.name),
        );
    }
}

/// The framing of a message handler. One that is not known is stood in for.
fn take_framing(said: &Attribute, grammar: &Grammar, errors: &mut Errors) -> Option<Value> {
    let key = grammar.find("framing").next()?.1;
    if let (TypeSetting::Missing, false) = (&said.framing, said.has_unknown()) {
        errors.push(syn::Error::new(
            Span::call_site(),
            format!(
                "`framing` is missing: write `#[{}({})]`; it is {}",
                grammar.name,
                key.usage(),
                key.takes.expected()
            ),
        ));
    }
    match &said.framing {
        TypeSetting::Value { value, .. } => Some(value.clone()),
        _ => Some(Value::Word(&keys::FRAMING, &keys::FRAMING.words[0])),
    }
}

impl Field {
    /// Whether it is taken from the request, and is of a type of this name.
    fn is(&self, name: &str) -> bool {
        matches!(self.source, Source::Request) && is_named(&self.ty, name)
    }
}

fn is_named(ty: &Type, name: &str) -> bool {
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == name),
        // As a type passes through a `macro_rules!` macro.
        Type::Group(group) => is_named(&group.elem, name),
        Type::Paren(paren) => is_named(&paren.elem, name),
        _ => false,
    }
}

/// The messages are read by the loop that calls the handler, and a request has one reader.
fn refuse_readers<'a>(fields: impl Iterator<Item = &'a Field>, errors: &mut Errors) {
    for field in fields {
        let instead = match (field.is("Reader"), field.is("Frames")) {
            (true, _) => "",
            (_, true) => "; to send messages, hold a `FrameWriter`",
            _ => continue,
        };
        errors.at(&field.ty, format!("a message handler does not read: its messages come to `message`{instead}"));
    }
}

/// Of two readers, each would miss what the other has received.
fn refuse_second_reader<'a>(fields: impl Iterator<Item = &'a Field>, errors: &mut Errors) {
    let readers: Vec<&Field> = fields.filter(|field| field.is("Reader") || field.is("Frames")).collect();
    for (index, field) in readers.iter().enumerate() {
        // Those with contrary conditions are never both there.
        let is_beside =
            |other: &&Field| other.only_if.is_none() || field.only_if.is_none_or(|it| other.only_if == Some(it));
        if readers[..index].iter().any(is_beside) {
            errors.at(&field.ty, "a second reader: a request has one, a `Reader` or a `Frames`");
        }
    }
}

/// The loop has one mailbox to wait for.
fn refuse_mailboxes<'a>(fields: impl Iterator<Item = &'a Field>, errors: &mut Errors) {
    for (index, field) in fields.filter(|field| field.is("Mailbox")).enumerate() {
        if index > 0 {
            errors.at(&field.ty, "a second mailbox: a message handler has one, of an enum for mail of several kinds");
        } else if field.only_if.is_some() {
            errors.at(
                &field.ty,
                "the mailbox of a message handler has no condition: write the struct twice, each under one",
            );
        }
    }
}

fn taken_by(field: &Field, condition: Option<&TokenStream>) -> Option<TakenField> {
    let Source::Request = field.source else { return None };
    let condition = field.only_if.zip(condition).map(|(is_met, condition)| outcome(condition, is_met));
    Some(TakenField { ty: field.ty.clone(), condition })
}

/// The condition under which the given one has this outcome.
pub(crate) fn outcome(condition: &TokenStream, is_met: bool) -> TokenStream {
    if is_met { condition.clone() } else { quote!(not(#condition)) }
}

/// An impl has no conditions on its parameters. The fields lose theirs with them, which would leave a parameter unused.
fn refuse_conditional_parameters(item: &mut DeriveInput, errors: &mut Errors) {
    let is_condition = |attribute: &mut syn::Attribute| attribute.path().is_ident("cfg") || hides(attribute, "cfg");
    let mut are_refused = false;
    for parameter in &mut item.generics.params {
        let attributes = match parameter {
            GenericParam::Lifetime(parameter) => &mut parameter.attrs,
            GenericParam::Type(parameter) => &mut parameter.attrs,
            GenericParam::Const(parameter) => &mut parameter.attrs,
        };
        for attribute in attributes.extract_if(.., is_condition) {
            are_refused = true;
            errors.at(
                attribute,
                "a parameter of a handler has no condition: write the struct twice, each under a `#[cfg(…)]` \
                 of its own, with the parameter and without",
            );
        }
    }
    if let (Data::Struct(data), true) = (&mut item.data, are_refused) {
        for field in &mut data.fields {
            field.attrs.retain_mut(|attribute| !is_condition(attribute));
        }
    }
}

/// None if no value can be built of them.
fn take_fields(
    item: &mut DeriveInput,
    grammar: &Grammar,
    errors: &mut Errors,
) -> Option<(Vec<Field>, Option<TokenStream>)> {
    let borrows = item.generics.lifetimes().next().is_some();
    for parameter in item.generics.lifetimes() {
        errors.at(&parameter.lifetime, format!("{OWNED} in place of a reference, without a lifetime"));
    }
    let reads_default = derive_that_reads_default(&item.attrs).map(|derive| (derive, grammar.name));
    let (keyword, kind) = match &mut item.data {
        Data::Struct(data) => {
            let mut condition = Condition::default();
            let fields = data.fields.iter_mut();
            let fields = fields.map(|field| take_field(field, reads_default.as_ref(), &mut condition, errors));
            let fields: Vec<Option<Field>> = fields.collect();
            let fields: Vec<Field> = fields.into_iter().collect::<Option<_>>()?;
            return (!borrows).then_some((fields, condition.predicate));
        }
        Data::Enum(data) => (data.enum_token.span, "enum"),
        Data::Union(data) => (data.union_token.span, "union"),
    };
    errors.push(syn::Error::new(keyword, format!("a handler is a struct: put the {kind} into a field of one")));
    None
}

fn take_field(
    field: &mut syn::Field,
    reads_default: Option<&(Path, &str)>,
    condition: &mut Condition,
    errors: &mut Errors,
) -> Option<Field> {
    let is_readable = refuse_conditional(field, errors);
    let mut defaults = field.attrs.extract_if(.., |attribute| attribute.path().is_ident("default"));
    let source = match defaults.next() {
        Some(attribute) => {
            if let Some((derive, name)) = reads_default {
                let derive = derive.to_token_stream().to_string().replace(' ', "");
                errors.at(
                    &attribute,
                    format!(
                        "`#[{name}]` takes this attribute, and `{derive}` below it would not see it: write \
                         `#[derive({derive})]` above `#[{name}]`, where both do"
                    ),
                );
            }
            default(&attribute, errors)
        }
        None => Some(Source::Request),
    };
    for attribute in defaults {
        errors.at(attribute, "a second default of one field");
    }
    let borrows = make_owned(&mut field.ty, errors);
    let only_if = condition.of(field, errors);
    let source = source.filter(|_| is_readable && !borrows)?;
    Some(Field { ident: field.ident.clone(), ty: field.ty.clone(), only_if: only_if?, source })
}

/// The one condition that the fields of a handler may have: each more would double the number of impls, since a bound
/// cannot have one.
#[derive(Default)]
struct Condition {
    predicate: Option<TokenStream>,
    /// Another one has been reported.
    is_refused: bool,
}

impl Condition {
    /// The outcome under which the field is there. Returns `None` after an error that says why the macro cannot know it.
    fn of(&mut self, field: &syn::Field, errors: &mut Errors) -> Option<Option<bool>> {
        let conditions = field.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
        let mut conditions = conditions.filter_map(|attribute| attribute.meta.require_list().ok());
        let Some(first) = conditions.next() else { return Some(None) };
        if let Some(second) = conditions.next() {
            errors.at(second, "a second condition on one field: write both in one `#[cfg(all(…, …))]`");
            return None;
        }
        let (predicate, is_met) = match syn::parse2(first.tokens.clone()) {
            Ok(Meta::List(list)) if list.path.is_ident("not") => (list.tokens, false),
            _ => (first.tokens.clone(), true),
        };
        let known = self.predicate.get_or_insert_with(|| predicate.clone());
        if known.to_string() == predicate.to_string() {
            return Some(Some(is_met));
        }
        if !std::mem::replace(&mut self.is_refused, true) {
            errors.at(
                first,
                format!(
                    "a second condition: the fields of a handler share one, which is `{known}` here, and its \
                     `not(…)`. Move the fields of the second into a struct with a `#[request_handler]` of its own, \
                     which can be a field of this one"
                ),
            );
        }
        None
    }
}

/// A derive below the attribute that reads the `#[default]` of fields as well, by its name: that of the standard
/// library reads it on the variants of enums only.
fn derive_that_reads_default(attributes: &[syn::Attribute]) -> Option<Path> {
    let derives = attributes.iter().flat_map(|attribute| derives(&attribute.meta));
    derives.into_iter().find(|path| {
        let path = path.to_token_stream().to_string().replace(' ', "");
        let name = path.rsplit("::").next().unwrap_or_default();
        let is_standard = ["Default", "std::default::Default", "core::default::Default"];
        name.contains("Default") && !is_standard.contains(&path.trim_start_matches("::"))
    })
}

/// The paths of a `#[derive(…)]`, with or without a condition.
fn derives(meta: &Meta) -> Vec<Path> {
    let Meta::List(list) = meta else { return Vec::new() };
    if list.path.is_ident("derive") {
        let paths = list.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated);
        return paths.into_iter().flatten().collect();
    }
    let metas = match list.path.is_ident("cfg_attr") {
        true => list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated),
        false => return Vec::new(),
    };
    metas.into_iter().flatten().skip(1).flat_map(|meta| derives(&meta)).collect()
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
        errors.at(attribute, format!("the macro does not know the outcome of a condition: {instead}"));
        is_readable = false;
    }
    is_readable
}

/// Whether a `#[cfg_attr(…)]` has such an attribute.
fn hides(attribute: &syn::Attribute, name: &str) -> bool {
    attribute.path().is_ident("cfg_attr")
        && attribute
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|metas| metas.iter().skip(1).any(|meta| meta.path().is_ident(name)))
}

fn default(attribute: &syn::Attribute, errors: &mut Errors) -> Option<Source> {
    match &attribute.meta {
        Meta::Path(_) => return Some(Source::Default),
        Meta::List(list) if is_list(&list.tokens) => {
            errors.at(&list.tokens, "a default is one value: write a tuple as `#[default((…, …))]`");
        }
        Meta::List(list) if !list.tokens.is_empty() => return Some(Source::Expression(list.tokens.clone())),
        _ => errors.at(attribute, "write `#[default]` for the default of the type, or a value like `#[default(1)]`"),
    }
    None
}

/// Whether a comma is there that can be in no expression: outside of parentheses, they have commas in the arguments of types
/// and closures only.
fn is_list(tokens: &TokenStream) -> bool {
    let has = |searched| {
        let is_searched = |token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == searched);
        tokens.clone().into_iter().any(is_searched)
    };
    has(',') && !has('<') && !has('|')
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
fn take_server(
    item: &mut DeriveInput,
    said_of_handler: &Attribute,
    grammar: &Grammar,
    mailbox: Option<&MailboxField>,
    krate: &mut Option<Path>,
    errors: &mut Errors,
) -> Option<OwnServer> {
    let attributes = item.attrs.extract_if(.., |attribute| attribute.path().is_ident("server"));
    let attributes: Vec<syn::Attribute> = attributes.collect();
    let place = attributes.first()?.path();
    let mut said = server::parse(attributes.iter(), errors);
    server::require_composition(&said, place, errors);
    let mut rules = said_of_handler.rules.clone();
    let of_mailbox = mailbox.filter(|_| !rules.iter().any(|(word, _)| word == "mailbox"));
    rules.extend(of_mailbox.map(|mailbox| (Ident::new("Mailbox", mailbox.ty.span()), &composition::SHARES_MEMORY)));
    composition::check(&rules, said.transport.value(), said.concurrency.value(), errors);
    let handler = &item.ident;
    let ident = match said.server_name.take() {
        Some((word, name)) if name == *handler => {
            errors.at(word, format!("the handler has this name: `{name}Server` would be free"));
            server_of(handler)
        }
        Some((_, name)) => name,
        None => server_of(handler),
    };
    drop_derive(&mut item.attrs, &ident, grammar, errors);
    if let TypeSetting::Value { key, .. } = &said.handler {
        errors.at(
            key,
            format!(
                "the handler is this struct, `{handler}`: leave the key out, or derive `Server` for another struct"
            ),
        );
    }
    said.krate = said.krate.or_else(|| krate.clone());
    krate.clone_from(&said.krate);
    let is_generic = item.generics.params.first().is_some_and(|parameter| {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            errors.at(
                parameter,
                format!(
                    "a server is of one type, `{handler}` of many: move the attribute to a struct of your own, \
                     `#[derive(Server)] #[server(…, handler = {handler}<…>)] struct {ident};`"
                ),
            );
        }
        true
    });
    said.handler = TypeSetting::Value { key: handler.clone(), value: Value::Path(parse_quote!(#handler)) };
    if is_generic {
        said.handler = TypeSetting::Wrong;
    }
    Some(OwnServer { vis: item.vis.clone(), server: Server::new(ident, Generics::default(), said) })
}

/// Lints on a name that is not the user's are not for the user.
fn server_of(handler: &Ident) -> Ident {
    let span = Span::call_site().located_at(handler.span());
    format_ident!("{}Server", handler, span = span)
}

/// Deriving `Server` as well would ask for a second server of the attribute that was taken.
fn drop_derive(attributes: &mut [syn::Attribute], server: &Ident, grammar: &Grammar, errors: &mut Errors) {
    for attribute in attributes.iter_mut().filter(|attribute| attribute.path().is_ident("derive")) {
        let Ok(derives) = attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated) else { continue };
        let is_server = |path: &&Path| path.segments.last().is_some_and(|segment| segment.ident == "Server");
        let (servers, others): (Vec<&Path>, Vec<&Path>) = derives.iter().partition(is_server);
        for path in servers {
            errors.at(
                path,
                format!(
                    "`#[{}]` above `#[server(…)]` writes the server, `{server}`: derive no second one",
                    grammar.name
                ),
            );
        }
        *attribute = parse_quote!(#[derive(#(#others),*)]);
    }
}
