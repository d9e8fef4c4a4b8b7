//! The example that the variable `CELL` names with a transport and a concurrency, like `upper tcp threading`.

include!(concat!(env!("OUT_DIR"), "/cells.rs"));

fn main() -> std::io::Result<()> {
    serve(&std::env::var("CELL").expect("CELL names a cell"))
}
