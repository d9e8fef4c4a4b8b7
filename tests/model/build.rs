//! Switches `sockserver/src/primitives.rs` to the model.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(sockserver_model)");
    println!("cargo::rustc-cfg=sockserver_model");
}
