//! The commands of the harness: `cargo xtask …`.
fn main() {}
