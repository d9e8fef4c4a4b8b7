//! From the tokens of an attribute to its settings: each key known, in its group, given once, with a value it takes.

use crate::{
    errors::Errors,
    suggest::{closest, listed},
    value::{Takes, Value},
};
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use std::time::Duration;
use syn::{
    LitStr, Path, Token,
    ext::IdentExt,
    parenthesized,
    parse::{ParseStream, Parser},
    token::Paren,
};

/// What can be written in an attribute.
pub(crate) struct Grammar {
    /// The name of the attribute.
    pub(crate) name: &'static str,
    /// The first is the attribute itself and has no name. No two have a key of the same name.
    pub(crate) groups: &'static [Group],
    /// What Python calls otherwise or has elsewhere, with what there is here.
    pub(crate) python: &'static [(&'static str, &'static str)],
    /// The other attribute, whose keys are told from unknown ones.
    pub(crate) other: &'static Grammar,
}

pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [Key],
}

pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    /// Whether what it sets is an `Option`.
    pub(crate) optional: bool,
    /// Why zero is nonsense, where it is.
    pub(crate) not_zero: Option<&'static str>,
    /// The longest duration that the system takes, where it is one that somebody may want.
    pub(crate) most_seconds: Option<u64>,
}

impl Key {
    pub(crate) const fn new(name: &'static str, takes: Takes) -> Key {
        Key { name, takes, optional: false, not_zero: None, most_seconds: None }
    }

    pub(crate) const fn optional(self) -> Key {
        Key { optional: true, ..self }
    }

    pub(crate) const fn not_zero(self, reason: &'static str) -> Key {
        Key { not_zero: Some(reason), ..self }
    }

    pub(crate) const fn most_seconds(self, seconds: u64) -> Key {
        Key { most_seconds: Some(seconds), ..self }
    }

    /// Why it does not take a value of the right kind.
    fn refusal(&self, value: &Value) -> Option<String> {
        match (self.not_zero, self.most_seconds) {
            (Some(reason), _) if value.is_zero() => Some(format!("cannot be zero: {reason}")),
            (_, Some(seconds)) if value.is_longer(Duration::from_secs(seconds)) => {
                Some(format!("can be at most `\"{seconds}s\"`, the longest that the system takes"))
            }
            _ => None,
        }
    }

    fn usage(&self) -> String {
        format!("{} = {}", self.name, self.takes.example())
    }
}

impl Grammar {
    pub(crate) fn find(&self, name: &str) -> Option<(&'static Group, &'static Key)> {
        self.keys().find(|(_, key)| key.name == name)
    }

    fn keys(&self) -> impl Iterator<Item = (&'static Group, &'static Key)> {
        self.groups.iter().flat_map(|group| group.keys.iter().map(move |key| (group, key)))
    }

    fn subgroup(&self, name: &str) -> Option<&'static Group> {
        self.groups.iter().find(|group| group.name == name && !name.is_empty())
    }

    /// The group in the words of an error.
    fn place(&self, group: &Group) -> String {
        if group.name.is_empty() { format!("`#[{}(…)]`", self.name) } else { format!("`{}(…)`", group.name) }
    }

    fn allowed(&self, group: &Group) -> String {
        let keys = group.keys.iter().map(|key| key.name.to_string());
        let is_top = group.name.is_empty();
        let groups = self.groups.iter().filter(|group| is_top && !group.name.is_empty());
        listed(keys.chain(groups.map(|group| format!("{}(…)", group.name))), "and")
    }
}

pub(crate) struct Setting {
    pub(crate) group: &'static Group,
    pub(crate) key: &'static Key,
    /// The key as it was written.
    pub(crate) word: Ident,
    /// None if an error on this setting has been reported.
    pub(crate) value: Option<Value>,
}

/// What an attribute says.
pub(crate) struct Said {
    pub(crate) settings: Vec<Setting>,
    /// Whether something in no group was not understood, which may have been meant for one that is missing.
    pub(crate) has_unknown: bool,
}

/// The value of a key, if it was given and is right.
pub(crate) fn value<'a>(settings: &'a [Setting], key: &str) -> Option<&'a Value> {
    settings.iter().find(|setting| setting.key.name == key)?.value.as_ref()
}

/// The `crate = path`, where the runtime crate is found.
pub(crate) fn krate(settings: &[Setting]) -> Option<&Path> {
    match value(settings, "crate")? {
        Value::Path(path) => Some(&path.path),
        _ => None,
    }
}

/// Parses an attribute to the end, whatever is wrong in it.
pub(crate) fn parse(tokens: TokenStream, grammar: &'static Grammar, errors: &mut Errors) -> Said {
    let mut settings = Settings { grammar, given: Vec::new(), has_unknown: false, groups: Vec::new(), errors };
    let parse = |input: ParseStream<'_>| {
        settings.group(&grammar.groups[0], input);
        Ok(())
    };
    if let Err(error) = parse.parse2(tokens) {
        settings.errors.push(error);
    }
    Said { settings: settings.given, has_unknown: settings.has_unknown }
}

struct Settings<'a> {
    grammar: &'static Grammar,
    given: Vec<Setting>,
    has_unknown: bool,
    groups: Vec<&'static str>,
    errors: &'a mut Errors,
}

impl Settings<'_> {
    fn group(&mut self, group: &'static Group, input: ParseStream<'_>) {
        while !input.is_empty() {
            let entry = self.entry(group, input).and_then(|()| {
                if input.is_empty() || input.peek(Token![,]) {
                    Ok(())
                } else {
                    Err(input.error("expected `,` after a value, which is one literal or one path"))
                }
            });
            if let Err(error) = entry {
                self.errors.push(error);
                while !input.peek(Token![,]) && input.parse::<TokenTree>().is_ok() {}
            }
            let _ = input.parse::<Option<Token![,]>>();
        }
    }

    fn entry(&mut self, group: &'static Group, input: ParseStream<'_>) -> syn::Result<()> {
        if input.peek(Token![,]) {
            return Err(input.error("a key is missing before this comma"));
        }
        if let Some((key, choice)) = choice_without_key(group, input) {
            let message = format!("this value has no key: write `{} = \"{choice}\"`", key.name);
            return Err(self.meant(group, key, Ident::new(key.name, input.span()), message));
        }
        let Ok(word) = input.call(Ident::parse_any) else {
            let message = format!("expected one of {}", self.grammar.allowed(group));
            return Err(self.not_understood(group, input.error(message)));
        };
        let name = word.unraw().to_string();
        if let Some(key) = group.keys.iter().find(|key| key.name == name) {
            return self.setting(group, key, word, input);
        }
        match self.grammar.subgroup(&name) {
            Some(subgroup) if group.name.is_empty() => self.subgroup(subgroup, word, input),
            _ => Err(self.misplaced(group, word)),
        }
    }

    fn setting(
        &mut self,
        group: &'static Group,
        key: &'static Key,
        word: Ident,
        input: ParseStream<'_>,
    ) -> syn::Result<()> {
        // A misspelt or misplaced one has had its error.
        let is_second = self.given.iter().any(|setting| setting.word == word);
        if is_second {
            self.errors.at(&word, format!("`{word}` is given twice"));
        }
        let (value, result) = match parse_value(key, &word, input) {
            Ok(value) => (Some(value), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if !is_second {
            self.given.push(Setting { group, key, word, value });
        }
        result
    }

    fn subgroup(&mut self, group: &'static Group, word: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Paren) {
            let allowed = self.grammar.allowed(group);
            return Err(error(&word, format!("`{word}` is a group: write `{word}(…)`, with {allowed} in it")));
        }
        if self.groups.contains(&group.name) {
            self.errors.at(&word, format!("`{word}(…)` is given twice: write all of it in one"));
        }
        self.groups.push(group.name);
        let content;
        parenthesized!(content in input);
        self.group(group, &content);
        Ok(())
    }

    /// What is wrong with a word that is no key of this group.
    fn misplaced(&mut self, group: &'static Group, word: Ident) -> syn::Error {
        let grammar = self.grammar;
        let name = word.unraw().to_string();
        let here = grammar.place(group);
        if let Some((home, key)) = grammar.find(&name) {
            let place = grammar.place(home);
            return self.meant(home, key, word, format!("`{name}` belongs in {place}, not in {here}"));
        }
        if grammar.subgroup(&name).is_some() {
            return error(&word, format!("`{name}(…)` belongs in `#[{}(…)]`, not in {here}", grammar.name));
        }
        if let Some((_, instead)) = grammar.python.iter().find(|(python, _)| *python == name) {
            return self.not_understood(group, error(&word, format!("`{name}` is Python's: here {instead}")));
        }
        if let Some((home, _)) = grammar.other.find(&name) {
            let Grammar { name: other, .. } = grammar.other;
            let place = if home.name.is_empty() { "…".to_string() } else { format!("{}({name} = …)", home.name) };
            return error(&word, format!("`{name}` belongs in `#[{other}({place})]`, not in {here}"));
        }
        let unknown = |hint: String| format!("unknown key `{name}`: {here} takes {}{hint}", grammar.allowed(group));
        let keys_of = |group: &'static Group| group.keys.iter().map(|key| key.name);
        let near = closest(&name, keys_of(group)).or_else(|| closest(&name, grammar.groups.iter().flat_map(keys_of)));
        if let Some((home, key)) = near.and_then(|name| grammar.find(name)) {
            let place = if home.name == group.name { String::new() } else { format!(" in {}", grammar.place(home)) };
            return self.meant(home, key, word, unknown(format!("; did you mean `{}`{place}?", key.name)));
        }
        let groups = grammar.groups[1..].iter().map(|group| group.name);
        let hint = closest(&name, groups).map(|similar| format!("; did you mean `{similar}(…)`?"));
        self.not_understood(group, error(&word, unknown(hint.unwrap_or_default())))
    }

    fn not_understood(&mut self, group: &Group, error: syn::Error) -> syn::Error {
        self.has_unknown |= group.name.is_empty();
        error
    }

    /// Takes a word for a key, so that the key is not missed as well.
    fn meant(&mut self, group: &'static Group, key: &'static Key, word: Ident, message: String) -> syn::Error {
        let error = error(&word, message);
        self.given.push(Setting { group, key, word, value: None });
        error
    }
}

/// One of the words that a key takes, with or without its quotes, where a key should be.
fn choice_without_key(group: &Group, input: ParseStream<'_>) -> Option<(&'static Key, String)> {
    let ahead = input.fork();
    let word = match ahead.parse::<LitStr>() {
        Ok(text) => text.value(),
        Err(_) => ahead.call(Ident::parse_any).ok()?.to_string(),
    };
    let key = group.keys.iter().find(|key| key.takes.is_choice(&word))?;
    (ahead.is_empty() || ahead.peek(Token![,])).then_some((key, word))
}

fn parse_value(key: &Key, word: &Ident, input: ParseStream<'_>) -> syn::Result<Value> {
    if input.peek(Token![:]) {
        return Err(input.error(format!("write `=` in place of `:`, like `{}`", key.usage())));
    }
    let assigned = input.parse::<Option<Token![=]>>()?.is_some();
    if !assigned || input.is_empty() || input.peek(Token![,]) {
        return Err(error(word, format!("`{word}` takes a value: `{}`", key.usage())));
    }
    let start = input.fork();
    let value = key.takes.parse(input)?;
    match key.refusal(&value) {
        Some(refusal) => Err(start.error(format!("`{word}` {refusal}"))),
        None => Ok(value),
    }
}

fn error(tokens: impl ToTokens, message: String) -> syn::Error {
    syn::Error::new_spanned(tokens, message)
}
