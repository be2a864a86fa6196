//! Compiles `slalom/v1/*.proto` without `protoc`: `protox` reads the files, `tonic-prost-build` writes the code.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=slalom");
    let files = ["slalom/v1/sweep.proto", "slalom/v1/worker_service.proto", "slalom/v1/sweep_service.proto"];
    let descriptors = protox::compile(files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("slalom_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
