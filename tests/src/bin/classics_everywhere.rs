//! The example and the concurrency that the variable `CELL` names, like `recv_upper sync`.

include!(concat!(env!("OUT_DIR"), "/classics.rs"));

fn main() -> std::io::Result<()> {
    serve(&std::env::var("CELL").expect("CELL names a cell"))
}
