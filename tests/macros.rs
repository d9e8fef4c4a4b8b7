//! What the macros say and write, as a user's compiler sees it.

use sockserver::{
    Address, HandlerError, HandlerResult, Options, RequestHandler, Server, ServerHandle, Stream, request_handler,
};
use std::collections::BTreeMap;

#[test]
fn mistakes_are_told_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

#[test]
fn fixtures_and_their_expansions_compile() {
    trybuild::TestCases::new().pass("expand/*.rs");
}

/// Written out, as in `expand/`, the parameters of the expansion would hide the hooks.
#[test]
fn a_hook_can_have_the_name_of_what_it_is_given() {
    #[request_handler]
    #[server(
        transport = "tcp",
        concurrency = "sync",
        hooks(server_activate = handle, verify_request = request, handle_error = client_address),
    )]
    struct Silent;

    impl RequestHandler for Silent {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    fn handle(_: &SilentServer, _: &ServerHandle) {}

    fn request(_: &SilentServer, _: &Stream, _: &Address) -> bool {
        true
    }

    fn client_address(_: &SilentServer, _: &HandlerError, _: &Address) {}

    drop(SilentServer.bind("127.0.0.1:0").unwrap());
}

const REFERENCE: &str = include_str!("../sockserver/docs/keys.md");

/// The rows of the reference that are fields of the options, as `(path, default)`.
fn options_in_the_reference() -> BTreeMap<String, String> {
    let rows = REFERENCE.lines().filter_map(|row| {
        let cells: Vec<&str> = row.strip_prefix("| [`")?.split(" | ").collect();
        let (key, link) = cells[0].split_once("`](")?;
        let is_option =
            ["Options::", "SocketOptions::", "Limits::", "Timeouts::"].iter().any(|it| link.starts_with(it));
        let path = key.replace('(', ".").replace(')', "");
        is_option.then(|| (path, cells[2].to_string()))
    });
    rows.collect()
}

#[test]
fn the_reference_has_every_option_with_its_default() {
    let shown = format!("{:#?}", Options::new());
    let mut groups: Vec<String> = Vec::new();
    let mut defaults = BTreeMap::new();
    for line in shown.lines().skip(1) {
        let line = line.trim().trim_end_matches(',');
        match line.split_once(": ") {
            Some((group, value)) if value.ends_with('{') => groups.push(format!("{group}.")),
            Some((field, value)) => drop(defaults.insert(format!("{}{field}", groups.concat()), value.to_string())),
            None => drop(groups.pop()),
        }
    }
    let reference = options_in_the_reference();
    assert!(reference.keys().eq(defaults.keys()), "{reference:#?}\n{defaults:#?}");
    for (path, default) in defaults {
        let said = &reference[&path];
        // As the attribute has it, in code; in words, where there is none.
        let literal = said.strip_prefix('`').and_then(|said| said.strip_suffix('`')).map(|said| said.replace('"', ""));
        match &*default {
            "None" => assert_eq!(literal.filter(|literal| literal != "::std::thread"), None, "{path}: {said}"),
            "0ns" => assert_eq!(literal.as_deref(), Some("0s"), "{path}"),
            default => assert_eq!(literal, Some(default.to_lowercase()), "{path}"),
        }
    }
}
