//! `slalom.v1`: the protocol between coordinator, workers and people, as code generated from `slalom/v1/*.proto`;
//! and `slalom.store.v1`, the records of a coordinator's store.
//!
//! The files are the protocol's manual; nothing is written by hand here. Conversions to the domain's own types
//! stand in `slalom_common::wire`.

/// The messages and services of `slalom.v1`.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    reason = "generated code; its documentation is the .proto files'"
)]
pub mod v1 {
    tonic::include_proto!("slalom.v1");
}

/// What a coordinator's store is made of; never sent.
pub mod store {
    /// The records of `slalom.store.v1`.
    #[allow(
        clippy::all,
        clippy::pedantic,
        missing_docs,
        unreachable_pub,
        reason = "generated code; its documentation is the .proto file's"
    )]
    pub mod v1 {
        tonic::include_proto!("slalom.store.v1");
    }
}

/// What the server's reflection service shows.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("slalom_descriptor");
