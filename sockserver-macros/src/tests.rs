//! Expands every fixture of `tests/expand/` in the workspace and compares the result with its `.expanded.rs`; and holds
//! the modules of this crate to their order.
//!
//! `UPDATE_EXPECT=1 cargo test -p sockserver-macros` writes what is new.

use crate::{expand_handler, expand_server, keys};
use expect_test::expect_file;
use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};
use syn::{Attribute, Item, Token, parse_quote, punctuated::Punctuated};

#[test]
fn the_fixtures_expand_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/expand");
    let Ok(entries) = fs::read_dir(&directory) else {
        return eprintln!("{} is not part of the package: nothing to expand", directory.display());
    };
    let fixtures = entries.map(|entry| entry.unwrap().path()).filter(|path| is_fixture(path));
    let mut fixtures: Vec<PathBuf> = fixtures.collect();
    fixtures.sort();
    assert!(!fixtures.is_empty());
    for path in fixtures {
        let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
        let items = file.items.into_iter().map(expand);
        let expanded = syn::parse2(quote!(#(#items)*)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        expect_file![path.with_extension("expanded.rs")].assert_eq(&prettyplease::unparse(&expanded));
    }
}

/// The programs of `tests/ui` have all features.
#[test]
#[cfg(not(feature = "tls"))]
fn a_key_of_tls_names_its_feature() {
    for said in [
        quote!(tls(certificate = "cert.pem", key = "key.pem")),
        quote!(certificate = "cert.pem"),
        quote!(hooks(tls = Self::tls)),
    ] {
        let server = quote!(transport = "tcp", concurrency = "sync", handler = Session, #said);
        let expanded = expand_server(quote!(
            #[server(#server)]
            struct Chat;
        ))
        .to_string();
        assert_eq!(expanded.matches("compile_error").count(), 1, "{expanded}");
        assert!(expanded.contains("needs the feature `tls`"), "{expanded}");
    }
}

fn is_fixture(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("rs")) && path.with_extension("").extension().is_none()
}

/// Does to an item what the compiler does with the macros, each of them once.
fn expand(item: Item) -> TokenStream {
    let Item::Struct(mut item) = item else { return item.into_token_stream() };
    for grammar in [&keys::REQUEST_HANDLER, &keys::MESSAGE_HANDLER] {
        if let Some(index) = item.attrs.iter().position(|attribute| attribute.path().is_ident(grammar.name)) {
            let attribute = item.attrs.remove(index);
            let arguments = attribute.meta.require_list().map(|list| list.tokens.clone()).unwrap_or_default();
            return expand_handler(arguments, item.into_token_stream(), grammar);
        }
    }
    let input = item.to_token_stream();
    if !item.attrs.iter_mut().any(drop_server) {
        return input;
    }
    item.attrs.retain(|attribute| !attribute.path().is_ident("server"));
    let expanded = expand_server(input);
    quote!(#item #expanded)
}

/// Whether `Server` was among what is derived.
fn drop_server(attribute: &mut Attribute) -> bool {
    if !attribute.path().is_ident("derive") {
        return false;
    }
    let derives = attribute.parse_args_with(Punctuated::<syn::Path, Token![,]>::parse_terminated).unwrap();
    let others = derives.iter().filter(|path| !path.is_ident("Server")).collect::<Vec<_>>();
    let was_there = others.len() < derives.len();
    *attribute = parse_quote!(#[derive(#(#others),*)]);
    was_there
}

/// `lib.rs` declares the modules in the order in which they build on each other.
#[test]
fn a_module_uses_those_that_are_declared_before_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(directory.join("lib.rs")).unwrap();
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let place = |module: &str| modules.iter().position(|name| *name == module);
    let mut uses = 0;
    for path in sources(&directory) {
        let name = path.strip_prefix(&directory).unwrap().components().next().unwrap();
        let name = Path::new(name.as_os_str()).file_stem().unwrap().to_str().unwrap();
        for used in used_modules(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap()) {
            let (Some(user), Some(used_place)) = (place(name), place(&used)) else { continue };
            assert!(used_place <= user, "{name} uses {used}, which is declared after it");
            uses += usize::from(used_place < user);
        }
    }
    assert!(uses >= modules.len(), "{uses}");
}

/// The modules of this crate that the file uses, its tests aside.
fn used_modules(file: &syn::File) -> Vec<String> {
    let is_test = |attribute: &Attribute| attribute.to_token_stream().to_string().replace(' ', "") == "#[cfg(test)]";
    let mut found = Vec::new();
    for item in &file.items {
        match item {
            Item::Mod(module) if module.attrs.iter().any(is_test) => {}
            item => found_in(item.to_token_stream(), &mut found),
        }
    }
    found
}

/// What follows each `crate::`, also within its braces.
fn found_in(tokens: TokenStream, found: &mut Vec<String>) {
    let mut before = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if before == "crate::" => {
                let mut is_start = true;
                for token in group.stream() {
                    match &token {
                        TokenTree::Ident(name) if is_start => found.push(name.to_string()),
                        _ => {}
                    }
                    is_start = matches!(&token, TokenTree::Punct(comma) if comma.as_char() == ',');
                }
            }
            TokenTree::Group(group) => found_in(group.stream(), found),
            TokenTree::Ident(name) if before == "crate::" => found.push(name.to_string()),
            TokenTree::Ident(name) => {
                before = name.to_string();
                continue;
            }
            TokenTree::Punct(colon) if colon.as_char() == ':' => {
                before.push(':');
                continue;
            }
            _ => {}
        }
        before.clear();
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
