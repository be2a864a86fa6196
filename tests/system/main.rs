//! The system from outside: real processes on loopback, real faults, and the oracle that no fault may change a byte.
//!
//! Read `world` first: it starts processes, breaks them, and waits for lines of their logs.

#![expect(clippy::unwrap_used, reason = "tests say what they mean by their names")]

mod backup;
mod faults;
mod isa;
mod kills;
mod limits;
mod longer;
mod network;
mod proxy;
mod resume;
mod steering;
mod sweep;
mod tidy;
mod world;
