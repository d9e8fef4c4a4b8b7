//! The rooms of the runtime crate: which file may import which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the lowest to the highest. A room is a file or a folder of `sockserver/src`; it imports lower rooms only.
const ROOMS: [&str; 46] = [
    "primitives",
    "sys",
    "address",
    "network",
    "rate",
    "unwind",
    "options",
    "configuration",
    "inheritance",
    "proxy_header",
    "tls",
    "io",
    "framing",
    "request",
    "connections",
    "lingering",
    "exits",
    "callbacks",
    "handler",
    "runner",
    "message_handler",
    "error",
    "event",
    "telemetry",
    "systemd",
    "server_state",
    "signals",
    "hand_over",
    "handle",
    "running_server",
    "preamble",
    "transport",
    "service",
    "extractors",
    "message_loop",
    "finish_request",
    "hooks",
    "acceptor",
    "job",
    "concurrency",
    "socket_server",
    "server",
    "testing",
    "__private",
    "lib",
    "guide",
];

/// A module, by its path in the crate.
type Module = Vec<String>;

#[test]
fn a_room_imports_lower_rooms_only() {
    let modules = modules();
    let level = |module: &Module| {
        let room = module.first().map_or("lib", String::as_str);
        ROOMS.iter().position(|known| *known == room).unwrap_or_else(|| panic!("name the room `{room}` in ROOMS"))
    };
    for (module, imports) in &modules {
        for import in imports {
            assert!(level(import) <= level(module), "{} imports {}", module.join("::"), import.join("::"));
        }
    }
    let rooms: BTreeSet<_> = modules.keys().map(level).collect();
    assert_eq!(rooms.len(), ROOMS.len(), "a room of ROOMS is not there");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut modules = modules();
    // A module that imports none that is left is in no circle.
    while let Some(done) = modules.iter().find(|(_, imports)| imports.is_empty()).map(|(module, _)| module.clone()) {
        modules.remove(&done);
        modules.values_mut().for_each(|imports| _ = imports.remove(&done));
    }
    assert!(modules.is_empty(), "{modules:#?}");
}

/// All modules, and those that each of them imports.
fn modules() -> BTreeMap<Module, BTreeSet<Module>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sockserver/src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let files: BTreeMap<Module, String> = files.iter().map(|file| (module_of(&root, file), source(file))).collect();
    let imports = |(module, source): (&Module, &String)| {
        let paths = paths(source).into_iter().filter_map(|path| resolve(&path, module, &files));
        (module.clone(), paths.filter(|import| import != module).collect())
    };
    files.iter().map(imports).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

fn module_of(root: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(root).expect("a file of the crate").with_extension("");
    let mut module: Module = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod" || name == "lib") {
        module.pop();
    }
    module
}

/// The code of a file: without its comments, its tests, and what it exports of its own parts.
fn source(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a source file");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut code = lines.collect::<Vec<_>>().join("\n");
    while let Some(start) = code.find("pub use ").or_else(|| code.find("pub(crate) use ")) {
        let end = code[start..].find(';').expect("a whole item");
        code.replace_range(start..=start + end, "");
    }
    code
}

/// The paths that the code names: those of `use`, spelled out, and those that begin with `crate` or `super`.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    let mut code = code;
    while let Some((before, after)) = code.split_once("use ") {
        rest.push_str(before);
        let (import, after) = after.split_once(';').unwrap_or((after, ""));
        let import: String = import.split_whitespace().collect();
        spell_out("", &import, &mut paths);
        code = after;
    }
    rest.push_str(code);
    let is_of_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = rest.split(|letter| !is_of_path(letter));
    paths.extend(words.filter(|word| word.starts_with("crate::") || word.starts_with("super::")).map(String::from));
    paths
}

/// `a::{b, c::d}` is `a::b` and `a::c::d`.
fn spell_out(prefix: &str, import: &str, paths: &mut Vec<String>) {
    let Some((common, group)) = import.split_once('{') else {
        paths.push(format!("{prefix}{import}"));
        return;
    };
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (position, letter) in group.char_indices().chain([(group.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = &group[start..position];
                if !item.is_empty() {
                    spell_out(&format!("{prefix}{common}"), item, paths);
                }
                start = position + 1;
            }
            _ => {}
        }
    }
}

/// The module of this crate that a path begins with.
fn resolve(path: &str, module: &Module, files: &BTreeMap<Module, String>) -> Option<Module> {
    let mut names = path.split("::").peekable();
    let mut base = match names.next()? {
        "crate" => Module::new(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        "self" => module.clone(),
        // A part of this module, or another crate.
        name => {
            let part: Module = module.iter().cloned().chain([name.to_owned()]).collect();
            return files.contains_key(&part).then_some(part);
        }
    };
    while names.next_if_eq(&"super").is_some() {
        base.pop();
    }
    for name in names {
        base.push(name.to_owned());
        if !files.contains_key(&base) {
            base.pop();
            break;
        }
    }
    Some(base)
}
