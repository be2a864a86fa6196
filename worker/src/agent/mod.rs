//! Sessions with a coordinator.

pub mod session;
