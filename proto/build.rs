//! Compiles `slalom/**/*.proto` without `protoc`: `protox` reads the files, `tonic-prost-build` writes the code.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=slalom");
    let protocol =
        ["slalom/v1/sweep.proto", "slalom/v1/worker_service.proto", "slalom/v1/sweep_service.proto"];
    // What the reflection service shows is what is spoken: a store's records are not.
    let spoken = protox::compile(protocol, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("slalom_descriptor.bin"), spoken.encode_to_vec())?;
    let all = protox::compile(protocol.into_iter().chain(["slalom/store/v1/record.proto"]), ["."])?;
    tonic_prost_build::configure().compile_fds(all)?;
    Ok(())
}
