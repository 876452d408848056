//! Links `flow` at a fixed address on Linux.
//!
//! A program that can be loaded anywhere has its addresses filled in at each start: about 110 000 of
//! them, on 400 pages, most of them in the tables of the AWS SDKs. That took two of the four
//! milliseconds of a start, and flow starts once more as the guard of each program that deploys.

#![expect(clippy::disallowed_methods, reason = "cargo tells its build scripts about the target in variables")]

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
