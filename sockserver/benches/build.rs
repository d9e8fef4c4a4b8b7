//! Writes the example `kv` with the word of the event loop in place of its own.

use std::{
    env, fs, io,
    path::{self, Path},
};

fn main() -> io::Result<()> {
    let folder = path::absolute("../../examples/examples/kv")?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let example = fs::read_to_string(folder.join("main.rs"))?
        .replace("mod resp;", &format!("#[path = {:?}]\nmod resp;", folder.join("resp.rs")))
        .replace("mod store;", &format!("#[path = {:?}]\nmod store;", folder.join("store.rs")))
        .replace("\"threading\"", "\"event_loop\"")
        .replace("env::args().nth(1)", "env::args().nth(4)")
        .replace("127.0.0.1:6379", "127.0.0.1:0")
        .replace("fn main", "pub fn main");
    let module = format!("mod kv_on_loop {{\n{example}}}\n");
    let directory = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&directory).join("kv_on_loop.rs"), module)
}
