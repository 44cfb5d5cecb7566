//! Turns the `.proto` files of the enabled features into Rust, without protoc.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let enabled = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    println!("cargo::rerun-if-changed=build.rs");

    if enabled("NODE") {
        println!("cargo::rerun-if-changed=node.proto");
        let files = protox::compile(["node.proto"], [&manifest])?;
        fs::write(out.join("node.fds"), files.encode_to_vec())?;
        tonic_prost_build::configure()
            .build_server(enabled("NODE_SERVER"))
            .build_transport(false)
            .compile_fds(files)?;
    }
    // Rows of the journal are messages without a service, so what comes out is prost's alone.
    if enabled("JOURNAL") {
        println!("cargo::rerun-if-changed=journal.proto");
        let files = protox::compile(["journal.proto"], [&manifest])?;
        tonic_prost_build::configure().build_client(false).build_server(false).compile_fds(files)?;
    }
    Ok(())
}
