//! Expands every fixture of `tests/expand/` in the workspace and compares the result with its `.expanded.rs`.
//!
//! `UPDATE_EXPECT=1 cargo test -p sockserver-macros` writes what is new.

use crate::{expand_handler, expand_server};
use expect_test::expect_file;
use proc_macro2::TokenStream;
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

fn is_fixture(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("rs")) && path.with_extension("").extension().is_none()
}

/// Does to an item what the compiler does with the two macros, each of them once.
fn expand(item: Item) -> TokenStream {
    let Item::Struct(mut item) = item else { return item.into_token_stream() };
    if let Some(index) = item.attrs.iter().position(|attribute| attribute.path().is_ident("request_handler")) {
        let attribute = item.attrs.remove(index);
        let arguments = attribute.meta.require_list().map(|list| list.tokens.clone()).unwrap_or_default();
        return expand_handler(arguments, item.into_token_stream());
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
