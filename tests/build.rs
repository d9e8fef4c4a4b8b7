//! Writes the cells of `upper_everywhere`: the example `upper`, with one or two of its words changed.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=../examples/upper.rs");
    let upper = fs::read_to_string("../examples/upper.rs").expect("the example is there");
    let mut modules = String::new();
    let mut cells = String::new();
    for transport in ["tcp", "udp", "unix", "unix_datagram"] {
        for concurrency in ["sync", "threading", "pool", "forking"] {
            let moved = upper
                .replace("\"tcp\"", &format!("\"{transport}\""))
                .replace("\"threading\"", &format!("\"{concurrency}\""))
                .replace("fn main", "pub(crate) fn main");
            modules += &format!("mod {transport}_{concurrency} {{\n{moved}}}\n");
            cells += &format!("\"{transport} {concurrency}\" => {transport}_{concurrency}::main(),\n");
        }
    }
    let serve = format!("match cell {{\n{cells}_ => panic!(\"there is no cell {{cell}}\"),\n}}");
    let code = format!("{modules}fn serve(cell: &str) -> std::io::Result<()> {{\n{serve}\n}}\n");
    let directory = env::var_os("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&directory).join("cells.rs"), code).expect("it can be written");
}
