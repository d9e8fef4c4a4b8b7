//! Writes the reference page of the runtime crate from the table of keys.
//!
//! `UPDATE_EXPECT=1 cargo test -p sockserver-macros --all-features` writes what is new.

use crate::{
    composition::Axis,
    keys::{GRAMMARS, Group, Key, Parameter, Returns, Scope, Signature, Target},
    suggest::{listed, quoted},
    value::Kind,
};
use expect_test::expect_file;
use std::{fmt::Write, path::Path};

#[test]
fn the_reference_page_is_in_step_with_the_table() {
    // The page has the keys of all features.
    if cfg!(not(feature = "tls")) {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sockserver/docs/keys.md");
    if !page.exists() {
        return eprintln!("{} is not part of the package", page.display());
    }
    expect_file![page].assert_eq(&reference());
}

fn reference() -> String {
    let mut page = "# All keys\n".to_string();
    for grammar in GRAMMARS {
        let attribute = format!("#[{}(…)]", grammar.name);
        write!(page, "\n`{attribute}`:\n\n| key | takes | default | applies to |\n|---|---|---|---|\n").unwrap();
        for group in grammar.groups {
            for key in group.keys {
                let [name, takes, default] = [name(group, key), takes(key), key.default.to_string()];
                writeln!(page, "| {name} | {takes} | {default} | {} |", applies(key)).unwrap();
            }
        }
    }
    page
}

fn name(group: &Group, key: &Key) -> String {
    let name = if group.name.is_empty() { key.name.to_string() } else { format!("{}({})", group.name, key.name) };
    let documented_as = match (&key.sets, key.name) {
        (Target::Transport, _) => "Server::Transport".to_string(),
        (Target::Concurrency, _) => "Server::Concurrency".to_string(),
        (Target::Handler, _) => "Server::Handler".to_string(),
        (Target::Framing, _) => "framing".to_string(),
        (Target::Crate | Target::ServerName, _) => return format!("`{name}`"),
        (Target::Hook(Signature { returns: Returns::NothingAsConstant, .. }), key) => {
            format!("{}::{}", group.documented_in, key.to_uppercase())
        }
        (Target::Option { .. } | Target::Hook(_), key) => format!("{}::{key}", group.documented_in),
        (Target::Context { .. }, key) => format!("{}::set_{key}", group.documented_in),
    };
    format!("[`{name}`]({documented_as})")
}

fn takes(key: &Key) -> String {
    if let Target::Hook(signature) = &key.sets {
        return format!("a function: `{}`", function(signature));
    }
    let takes = match &key.takes {
        Kind::Word(words) => {
            let own = if words.are_types { ", or a type" } else { "" };
            return format!("{}{own}", words.listed());
        }
        Kind::Path(_) if matches!(key.sets, Target::Crate) => "a path",
        Kind::Path(_) => "a type",
        Kind::Name(_) => "a name",
        Kind::Flag => "`true` or `false`",
        Kind::Count => "a number",
        Kind::Size => "a size",
        Kind::Duration => "a duration",
        Kind::Mode => "permissions",
        Kind::Rate => "a rate",
        Kind::Networks => "a list of networks",
        Kind::Proxies => "a list of networks and `\"unix\"`",
        Kind::Text(_) => "text",
        Kind::Texts(_) => "a list of texts",
    };
    takes.to_string()
}

fn function(signature: &Signature) -> String {
    let parameters = signature.parameters.iter().map(|parameter| match parameter {
        Parameter::Handle => ", &ServerHandle",
        Parameter::Request => ", &Request<Self>",
        Parameter::Error => ", &HandlerError",
        Parameter::ClientAddress => ", &Address",
        Parameter::Event => ", &Event<'_>",
    });
    let result = match signature.returns {
        Returns::Bool => " -> bool",
        #[cfg(feature = "tls")]
        Returns::Tls => " -> io::Result<Tls>",
        Returns::Nothing | Returns::NothingAsConstant => "",
    };
    format!("fn(&Self{}){result}", parameters.collect::<String>())
}

fn applies(key: &Key) -> String {
    match key.scope {
        Scope::All => "all".to_string(),
        Scope::Words(what) => what.to_string(),
        Scope::Fitting(rule) => listed(rule.fits.iter().map(|word| quoted(word)), "and"),
    }
}

#[test]
fn rules_name_words_that_exist() {
    for (_, key) in keys() {
        let Scope::Fitting(rule) = key.scope else { continue };
        let kind = match rule.of {
            Axis::Transport => Kind::Word(&crate::composition::TRANSPORT),
            Axis::Concurrency => Kind::Word(&crate::composition::CONCURRENCY),
        };
        assert!(rule.fits.iter().all(|word| kind.has_word(word)), "{}: {:?}", key.name, rule.fits);
    }
}

#[test]
fn every_key_takes_what_it_sets() {
    for (_, key) in keys() {
        let is_right = match key.sets {
            Target::Transport | Target::Concurrency | Target::Framing => {
                matches!(&key.takes, Kind::Word(words) if words.are_types)
            }
            Target::Crate | Target::Handler | Target::Hook(_) => matches!(key.takes, Kind::Path(_)),
            Target::ServerName => matches!(key.takes, Kind::Name(_)),
            Target::Option { .. } | Target::Context { .. } => match &key.takes {
                Kind::Path(_) | Kind::Name(_) => false,
                Kind::Word(words) => !words.are_types,
                Kind::Flag | Kind::Count | Kind::Size | Kind::Duration | Kind::Mode => true,
                Kind::Rate | Kind::Networks | Kind::Proxies | Kind::Text(_) | Kind::Texts(_) => true,
            },
        };
        assert!(is_right, "{}", key.name);
    }
}

fn keys() -> impl Iterator<Item = (&'static Group, &'static Key)> {
    GRAMMARS.iter().flat_map(|grammar| grammar.groups).flat_map(|group| group.keys.iter().map(move |key| (group, key)))
}
