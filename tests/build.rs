//! Writes the cells of `examples_everywhere`, which are examples with one or two of their words changed; and lists the
//! fixtures of `expand/` as modules.

use std::{
    env, fs,
    path::{self, Path},
};

const CONCURRENCIES: [&str; 4] = ["sync", "threading", "pool", "forking"];

fn main() {
    let mut cells = Cells::default();
    for transport in ["tcp", "udp", "unix", "unix_datagram", "stream"] {
        for concurrency in CONCURRENCIES {
            cells.add("upper", transport, concurrency);
        }
        cells.add("upper", transport, "event_loop");
    }
    for concurrency in CONCURRENCIES {
        for transport in ["tcp", "unix", "stream"] {
            cells.add("tls", transport, concurrency);
        }
        // Those that Python's clients without line ends talk to.
        for example in ["recv_upper", "json_lower", "talk"] {
            cells.add(example, "tcp", concurrency);
        }
    }
    for example in ["json_lower", "chat", "kv"] {
        cells.add(example, "tcp", "event_loop");
    }
    cells.write("cells.rs");

    write("expansions.rs", &modules_of("expand"));
}

/// A module for each file of this folder.
fn modules_of(folder: &str) -> String {
    println!("cargo::rerun-if-changed={folder}");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let module = |file: &Path| {
        let name = file.file_stem().expect("it has a name").to_string_lossy().replace('.', "_");
        let path = path::absolute(file).expect("there is a current directory");
        format!("#[path = {path:?}]\nmod {name};\n")
    };
    files.iter().map(|file| module(file)).collect()
}

#[derive(Default)]
struct Cells {
    modules: String,
    arms: String,
}

impl Cells {
    fn add(&mut self, example: &str, transport: &str, concurrency: &str) {
        let folder = path::absolute("../examples/examples").expect("there is a current directory");
        let file = folder.join(format!("{example}.rs"));
        let file = if file.exists() { file } else { folder.join(example).join("main.rs") };
        println!("cargo::rerun-if-changed={}", file.display());
        let moved = fs::read_to_string(file)
            .expect("the example is there")
            .split('\n')
            .map(|line| match line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';')) {
                Some(module) => {
                    format!("#[path = {:?}]\n{line}\n", folder.join(example).join(module).with_extension("rs"))
                }
                None => format!("{line}\n"),
            })
            .collect::<String>()
            .replace("\"tcp\"", &format!("\"{transport}\""))
            .replace("\"threading\"", &format!("\"{concurrency}\""))
            .replace("fn main", "pub(crate) fn main");
        let (cell, module) =
            (format!("{example} {transport} {concurrency}"), format!("{example}_{transport}_{concurrency}"));
        self.modules += &format!("mod {module} {{\n{moved}}}\n");
        self.arms += &format!("\"{cell}\" => {module}::main(),\n");
    }

    fn write(self, file: &str) {
        let Cells { modules, arms } = self;
        let serve = format!("match cell {{\n{arms}_ => panic!(\"there is no cell {{cell}}\"),\n}}");
        let code = format!("{modules}fn serve(cell: &str) -> std::io::Result<()> {{\n{serve}\n}}\n");
        write(file, &code);
    }
}

fn write(file: &str, code: &str) {
    let directory = env::var_os("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&directory).join(file), code).expect("it can be written");
}
