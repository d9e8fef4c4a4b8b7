//! From the tokens of an attribute to what it says: each key known, in its group, given once, with a value it takes.

use crate::{
    composition::Rule,
    errors::Errors,
    keys::{self, GRAMMARS, Grammar, Group, Key, Scope, Signature, Target},
    suggest::{closest, did_you_mean, listed},
    value::{Refusal, Value},
};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    LitStr, Path, Token, TypePath,
    ext::IdentExt,
    parenthesized,
    parse::{ParseStream, Parser},
    spanned::Spanned,
    token::Paren,
};

/// What an attribute says, each value where it belongs.
#[derive(Default)]
pub(crate) struct Attribute {
    pub(crate) krate: Option<Path>,
    pub(crate) server_name: Option<(Ident, Ident)>,
    pub(crate) transport: TypeSetting,
    pub(crate) concurrency: TypeSetting,
    pub(crate) handler: TypeSetting,
    pub(crate) framing: TypeSetting,
    pub(crate) options: Vec<OptionValue>,
    pub(crate) calls: Vec<ContextCall>,
    pub(crate) hooks: Vec<Hook>,
    /// The keys that were given and do not fit every composition.
    pub(crate) rules: Vec<(Ident, &'static Rule)>,
    /// The keys that mean nothing without one of some groups: the word, the groups, and why.
    pub(crate) needs: Vec<(Ident, &'static [&'static str], &'static str)>,
    /// The groups that were given.
    pub(crate) groups: Vec<Ident>,
    /// The keys that were given, each with its group, also those whose value is wrong.
    pub(crate) given: Vec<(&'static str, &'static str)>,
    /// The groups with a word that was not understood, which may have been meant for a key that is missing.
    pub(crate) unknown: Vec<&'static str>,
}

/// A key that names a type.
#[derive(Default)]
pub(crate) enum TypeSetting {
    #[default]
    Missing,
    /// An error on it has been reported.
    Wrong,
    Value {
        key: Ident,
        value: Value,
    },
}

/// `options.group.field = value`.
pub(crate) struct OptionValue {
    /// Empty for an option in no group.
    pub(crate) group: &'static str,
    pub(crate) field: &'static str,
    /// The key as it was written.
    pub(crate) word: Ident,
    pub(crate) is_optional: bool,
    pub(crate) value: CheckedValue,
}

/// `cx.set_name(value)`.
pub(crate) struct ContextCall {
    pub(crate) name: &'static str,
    pub(crate) is_fallible: bool,
    pub(crate) value: CheckedValue,
}

/// A method of `Server` that calls a function.
pub(crate) struct Hook {
    pub(crate) name: &'static str,
    pub(crate) signature: &'static Signature,
    pub(crate) function: TypePath,
}

/// A value, and what is still to be checked of it: the compiler knows the value of a constant.
pub(crate) struct CheckedValue {
    pub(crate) value: Value,
    /// The method of the value whose result is compared, if it is no number.
    pub(crate) measure: Option<&'static str>,
    /// What is refused, with the words for it. Empty for a literal, which has been checked.
    pub(crate) refused: Vec<(Refusal, String)>,
}

impl Attribute {
    pub(crate) fn group(&self, name: &str) -> Option<&Ident> {
        self.groups.iter().find(|group| *group == name)
    }

    /// Whether a word outside of the groups was not understood.
    pub(crate) fn has_unknown(&self) -> bool {
        self.unknown.contains(&"")
    }
}

impl TypeSetting {
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            TypeSetting::Value { value, .. } => Some(value),
            _ => None,
        }
    }

    pub(crate) fn into_value(self) -> Option<Value> {
        match self {
            TypeSetting::Value { value, .. } => Some(value),
            _ => None,
        }
    }
}

impl CheckedValue {
    /// Where the value stands, if it is a constant.
    pub(crate) fn place(&self) -> Span {
        match &self.value {
            Value::Constant(path) => path.span(),
            _ => Span::call_site(),
        }
    }
}

/// Parses an attribute to the end, whatever is wrong in it. One that is written twice is read as one.
pub(crate) fn parse(
    parts: impl IntoIterator<Item = TokenStream>,
    grammar: &'static Grammar,
    errors: &mut Errors,
) -> Attribute {
    let mut parser = AttributeParser { grammar, settings: Vec::new(), unknown: Vec::new(), groups: Vec::new(), errors };
    for tokens in parts {
        let parse = |input: ParseStream<'_>| {
            parser.group(&grammar.groups[0], input);
            Ok(())
        };
        if let Err(error) = parse.parse2(tokens) {
            parser.errors.push(error);
        }
    }
    let mut attribute = Attribute { unknown: parser.unknown, groups: parser.groups, ..Attribute::default() };
    for setting in parser.settings {
        attribute.set(setting);
    }
    attribute
}

struct Setting {
    group: &'static Group,
    key: &'static Key,
    /// The key as it was written.
    word: Ident,
    /// None if an error on this setting has been reported.
    value: Option<Value>,
}

impl Attribute {
    fn set(&mut self, Setting { group, key, word, value }: Setting) {
        self.given.push((group.name, key.name));
        if let (Scope::Fitting(rule), Some(_)) = (&key.scope, &value) {
            self.rules.push((word.clone(), rule));
        }
        if let (Some((groups, because)), Some(_)) = (key.needs, &value) {
            self.needs.push((word.clone(), groups, because));
        }
        let given = match (&key.sets, value) {
            (Target::Transport, value) => return self.transport = TypeSetting::new(word, value),
            (Target::Concurrency, value) => return self.concurrency = TypeSetting::new(word, value),
            (Target::Handler, value) => return self.handler = TypeSetting::new(word, value),
            (Target::Framing, value) => return self.framing = TypeSetting::new(word, value),
            (_, None) => return,
            (_, Some(value)) => value,
        };
        match (&key.sets, given) {
            (Target::Crate, Value::Path(path)) => self.krate = Some(path.path),
            (Target::ServerName, Value::Name(name)) => self.server_name = Some((word, name)),
            (Target::Hook(signature), Value::Path(function)) => {
                self.hooks.push(Hook { name: key.name, signature, function });
            }
            (Target::Option { is_optional }, value) => self.options.push(OptionValue {
                group: group.name,
                field: key.name,
                word,
                is_optional: *is_optional,
                value: CheckedValue::new(key, value),
            }),
            (Target::Context { is_fallible }, value) => self.calls.push(ContextCall {
                name: key.name,
                is_fallible: *is_fallible,
                value: CheckedValue::new(key, value),
            }),
            _ => unreachable!("the table gives each of these its kind of value"),
        }
    }
}

impl TypeSetting {
    fn new(key: Ident, value: Option<Value>) -> TypeSetting {
        value.map_or(TypeSetting::Wrong, |value| TypeSetting::Value { key, value })
    }
}

impl CheckedValue {
    fn new(key: &Key, value: Value) -> CheckedValue {
        let refused = match value {
            Value::Constant(_) => key.refused,
            _ => &[],
        };
        let refused = refused.iter().map(|(refused, why)| (*refused, format!("`{}` {why}", key.name))).collect();
        CheckedValue { value, measure: key.takes.measure(), refused }
    }
}

struct AttributeParser<'a> {
    grammar: &'static Grammar,
    settings: Vec<Setting>,
    /// The groups with a word that was not understood.
    unknown: Vec<&'static str>,
    /// The groups that were given.
    groups: Vec<Ident>,
    errors: &'a mut Errors,
}

impl AttributeParser<'_> {
    fn group(&mut self, group: &'static Group, input: ParseStream<'_>) {
        while !input.is_empty() {
            if let Err(error) = self.entry(group, input).and_then(|()| self.separator(input)) {
                self.errors.push(error);
                while !is_separator(input) && input.parse::<TokenTree>().is_ok() {}
            }
            if is_separator(input) {
                let _ = input.parse::<TokenTree>();
            }
        }
    }

    /// What stands behind an entry. In place of a comma it reports what the next entry can be read after.
    fn separator(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        if input.peek(Token![;]) {
            self.errors.push(input.error("write `,` in place of `;`"));
        } else if let Some(next) = next_entry(input) {
            self.errors.at(&next, format!("a comma is missing before `{next}`"));
        } else if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error("a comma is missing before this"));
        }
        Ok(())
    }

    fn entry(&mut self, group: &'static Group, input: ParseStream<'_>) -> syn::Result<()> {
        if input.peek(Token![,]) {
            return Err(input.error("a key is missing before this comma"));
        }
        if let Some((key, choice)) = word_without_key(group, input) {
            let message = format!("this value has no key: write `{} = \"{choice}\"`", key.name);
            return Err(self.take_for(group, key, Ident::new(key.name, input.span()), message));
        }
        let Ok(word) = input.call(Ident::parse_any) else {
            self.unknown.push(group.name);
            return Err(input.error(format!("expected a key: {} has {}", self.place(group), self.keys_of(group))));
        };
        let name = word.unraw().to_string();
        if let Some(key) = group.keys.iter().find(|key| key.name == name) {
            return self.setting(group, key, word, input);
        }
        match self.grammar.subgroup(&name) {
            Some(subgroup) if group.name.is_empty() => self.subgroup(subgroup, word, input),
            _ => Err(self.unknown_key(group, word, input.peek(Paren))),
        }
    }

    fn setting(
        &mut self,
        group: &'static Group,
        key: &'static Key,
        word: Ident,
        input: ParseStream<'_>,
    ) -> syn::Result<()> {
        // A word that was only taken for this key has had its error.
        let mut given = self.settings.iter().filter(|setting| setting.group.name == group.name);
        let is_second = given.any(|setting| setting.word == word);
        if is_second {
            self.errors.at(&word, format!("`{word}` is given twice"));
        }
        let (value, result) = match parse_value(key, &word, input) {
            Ok(value) => (Some(value), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if !is_second {
            self.settings.push(Setting { group, key, word, value });
        }
        result
    }

    fn subgroup(&mut self, group: &'static Group, word: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Paren) {
            // It was meant to be there, and not to be empty.
            self.groups.push(word.unraw());
            self.unknown.push(group.name);
            let keys = self.keys_of(group);
            return Err(error(&word, format!("`{word}` is a group: write `{word}(…)`, with {keys} in it")));
        }
        if self.groups.iter().any(|given| given == group.name) {
            self.errors.at(&word, format!("`{word}(…)` is given twice: write all of it in one"));
        }
        self.groups.push(word.unraw());
        let content;
        parenthesized!(content in input);
        self.group(group, &content);
        let is_given = |name| self.settings.iter().any(|it| it.group.name == group.name && it.key.name == name);
        match group.keys.iter().find(|key| group.required == Some(key.name)) {
            Some(key) if !is_given(key.name) && !self.unknown.contains(&group.name) => {
                Err(error(&word, format!("`{word}(…)` lacks `{}`: write `{}`", key.name, key.usage())))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with a word that is no key of this group.
    fn unknown_key(&mut self, group: &'static Group, word: Ident, is_group: bool) -> syn::Error {
        let grammar = self.grammar;
        let name = word.unraw().to_string();
        let here = self.place(group);
        if let Some((home, key)) = grammar.find(&name).next() {
            let places = grammar.find(&name).map(|(home, _)| self.place(home)).collect::<Vec<_>>().join(" and in ");
            return self.take_for(home, key, word, format!("`{name}` belongs in {places}, not in {here}"));
        }
        if grammar.subgroup(&name).is_some() {
            return error(&word, format!("`{name}(…)` belongs in `#[{}(…)]`, not in {here}", grammar.name));
        }
        if let Some((_, instead)) = grammar.python.iter().find(|(python, _)| *python == name) {
            self.unknown.push(group.name);
            return error(&word, format!("`{name}` is Python's: here {instead}"));
        }
        if let Some((_, instead)) = grammar.foreign.iter().find(|(foreign, _)| *foreign == name) {
            self.unknown.push(group.name);
            return error(&word, format!("there is no `{name}` here: {instead}"));
        }
        if cfg!(not(feature = "tls")) && keys::OF_TLS.contains(&&*name) {
            self.unknown.push(group.name);
            return error(&word, format!("`{name}` needs the feature `tls`: `cargo add sockserver --features tls`"));
        }
        if GRAMMARS.iter().any(|other| other.name == name) {
            return error(
                &word,
                format!("`{name}(…)` is an attribute of its own: write `#[{name}(…)]` below this one"),
            );
        }
        let others = GRAMMARS.iter().filter(|other| other.name != grammar.name);
        if let Some(other) = others.clone().find(|other| other.subgroup(&name).is_some()) {
            return error(&word, format!("`{name}(…)` belongs in `#[{}(…)]`, not in {here}", other.name));
        }
        if let Some((other, (home, _))) =
            others.flat_map(|other| other.find(&name).map(move |found| (other, found))).next()
        {
            let place = if home.name.is_empty() { "…".to_string() } else { format!("{}({name} = …)", home.name) };
            return error(&word, format!("`{name}` belongs in `#[{}({place})]`, not in {here}", other.name));
        }
        let unknown = format!("{here} has no key `{name}`: its keys are {}", self.keys_of(group));
        let keys_of = |group: &'static Group| group.keys.iter().map(|key| key.name);
        if let Some(near) = closest(&name, keys_of(group))
            && !is_group
            && let Some(key) = group.keys.iter().find(|key| key.name == near)
        {
            return self.take_for(group, key, word, format!("{}{unknown}", did_you_mean(near)));
        }
        if let Some(near) = closest(&name, grammar.groups.iter().flat_map(keys_of))
            && !is_group
            && let Some((home, key)) = grammar.find(near).next()
        {
            let usage = format!("{near} = …");
            let meant = if home.name.is_empty() { usage } else { format!("{}({usage})", home.name) };
            return self.take_for(home, key, word, format!("{}{unknown}", did_you_mean(&meant)));
        }
        self.unknown.push(group.name);
        let meant = closest(&name, grammar.subgroups().map(|group| group.name));
        let meant = meant.map(|similar| did_you_mean(&format!("{similar}(…)"))).unwrap_or_default();
        error(&word, format!("{meant}{unknown}"))
    }

    /// Takes a word for a key, so that the key is not missed as well.
    fn take_for(&mut self, group: &'static Group, key: &'static Key, word: Ident, message: String) -> syn::Error {
        let error = error(&word, message);
        self.settings.push(Setting { group, key, word, value: None });
        error
    }

    /// The group in the words of an error.
    fn place(&self, group: &Group) -> String {
        if group.name.is_empty() {
            format!("`#[{}(…)]`", self.grammar.name)
        } else {
            format!("`{}(…)`", group.name)
        }
    }

    fn keys_of(&self, group: &Group) -> String {
        let keys = group.keys.iter().map(|key| key.name.to_string());
        let groups = self.grammar.subgroups().filter(|_| group.name.is_empty());
        listed(keys.chain(groups.map(|group| format!("{}(…)", group.name))), "and")
    }
}

fn is_separator(input: ParseStream<'_>) -> bool {
    input.peek(Token![,]) || input.peek(Token![;])
}

/// The word that the next entry begins with, where no comma is before it.
fn next_entry(input: ParseStream<'_>) -> Option<Ident> {
    let ahead = input.fork();
    let word = ahead.call(Ident::parse_any).ok()?;
    (ahead.peek(Token![=]) || ahead.peek(Paren)).then_some(word)
}

/// One of the words that a key takes, with or without its quotes, where a key should be.
fn word_without_key(group: &Group, input: ParseStream<'_>) -> Option<(&'static Key, String)> {
    let ahead = input.fork();
    let word = match ahead.parse::<LitStr>() {
        Ok(text) => text.value(),
        Err(_) => ahead.call(Ident::parse_any).ok()?.to_string(),
    };
    let key = group.keys.iter().find(|key| key.takes.has_word(&word))?;
    (ahead.is_empty() || ahead.peek(Token![,])).then_some((key, word))
}

fn parse_value(key: &Key, word: &Ident, input: ParseStream<'_>) -> syn::Result<Value> {
    if input.peek(Token![:]) && !input.peek(Token![::]) {
        return Err(input.error(format!("write `=` in place of `:`, like `{}`", key.usage())));
    }
    let assigned = input.parse::<Option<Token![=]>>()?.is_some();
    if !assigned || input.is_empty() || input.peek(Token![,]) {
        return Err(error(word, format!("`{word}` takes a value: `{}`", key.usage())));
    }
    let start = input.fork();
    let value = key.takes.parse(word, input)?;
    if !input.is_empty() && !is_separator(input) && next_entry(input).is_none() {
        return Err(input.error(format!("an expression is no value: `{word}` takes {}", key.takes.expected())));
    }
    match key.refused.iter().find(|(refused, _)| value.is(*refused)) {
        Some((_, why)) => Err(start.error(format!("`{word}` {why}"))),
        None => Ok(value),
    }
}

fn error(tokens: impl ToTokens, message: String) -> syn::Error {
    syn::Error::new_spanned(tokens, message)
}
