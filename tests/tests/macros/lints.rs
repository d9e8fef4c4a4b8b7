//! What the macros write draws no warning, in a crate of any edition and under any lint.

use sockserver_tests::process::installed;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const EDITIONS: [&str; 4] = ["2015", "2018", "2021", "2024"];

/// It needs a crate with something to link.
const NOT_FOR_A_LIBRARY: &[&str] = &["linker_messages"];

#[test]
fn generated_code_draws_no_warning_in_any_edition() {
    if installed("cargo-clippy").is_none() {
        return;
    }
    let directory = scratch_workspace();
    let mut clippy = Command::new(env!("CARGO"));
    clippy.current_dir(&directory).env("CARGO_TARGET_DIR", directory.join("target")).env_remove("RUSTFLAGS");
    let output =
        clippy.args(["clippy", "--workspace", "--offline", "--keep-going", "-q"]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", errors(&output));
}

/// Without the warnings about lints that are for a nightly compiler.
fn errors(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.split("\n\n").filter(|part| !part.starts_with("warning: unknown lint")).collect::<Vec<_>>().join("\n\n")
}

/// One crate of each edition, with the same source.
fn scratch_workspace() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lints");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sockserver = tests.join("../sockserver");
    let source = fs::read_to_string(tests.join("lints/servers.rs")).expect("the source is there");
    let mut manifest = "[workspace]\nresolver = \"2\"\nmembers = [".to_string();
    for edition in EDITIONS {
        let package = directory.join(edition);
        fs::create_dir_all(package.join("src")).expect("a directory can be made");
        write!(manifest, "\"{edition}\", ").expect("a string can be written to");
        write(
            &package.join("Cargo.toml"),
            &format!(
                "[package]\nname = \"edition-{edition}\"\nversion = \"0.1.0\"\nedition = \"{edition}\"\n\n\
                 [dependencies]\nsockserver.path = {sockserver:?}\n"
            ),
        );
        write(&package.join("src/lib.rs"), &root(edition));
        write(&package.join("src/servers.rs"), &source);
    }
    write(&directory.join("Cargo.toml"), &format!("{manifest}]\n"));
    fs::copy(tests.join("../Cargo.lock"), directory.join("Cargo.lock")).expect("the lock file is there");
    directory
}

fn root(edition: &str) -> String {
    let lints = lints().join(", ");
    let declaration = if edition == "2015" { "extern crate sockserver;\n" } else { "" };
    format!(
        "//! Of the edition of {edition}.\n#![deny({lints})]\n#![deny(warnings)]\n\
         #![deny(clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]\n\
         #![allow(unknown_lints, clippy::blanket_clippy_restriction_lints)]\n\
         #![allow(clippy::allow_attributes, clippy::allow_attributes_without_reason)]\n{declaration}\n\
         /// With the macros.\npub mod servers;\n"
    )
}

/// All that the compiler has and that is not an error already.
fn lints() -> Vec<String> {
    let output = Command::new("rustc").args(["-W", "help"]).output().expect("rustc runs");
    let help = String::from_utf8(output.stdout).expect("names are ASCII");
    let table = help.split_once("Lint checks provided by rustc").and_then(|(_, rest)| rest.split_once("Lint groups"));
    let (table, _) = table.expect("the help has a table of lints");
    let lint = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, level) = (words.next()?.replace('-', "_"), words.next()?);
        let is_for_all = name != "warnings" && !NOT_FOR_A_LIBRARY.contains(&&*name);
        (matches!(level, "allow" | "warn") && is_for_all).then_some(name)
    };
    let lints: Vec<String> = table.lines().filter_map(lint).collect();
    assert!(lints.len() > 100, "{lints:?}");
    lints
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
