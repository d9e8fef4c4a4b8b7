//! The example `upper` with the transport and the concurrency that the variable `CELL` names, like `tcp threading`.

include!(concat!(env!("OUT_DIR"), "/cells.rs"));

fn main() -> std::io::Result<()> {
    serve(&std::env::var("CELL").expect("CELL names a cell"))
}
