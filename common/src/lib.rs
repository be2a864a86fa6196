//! The shared language of Slalom: what a grid, a trial, a run and a checkpoint are, the numbers that name them,
//! and their form on the wire. Nothing here opens a socket, reads a clock or starts a thread (`log` apart).

pub mod answer;
pub mod axis;
pub mod chain;
pub mod checkpoint;
pub mod corpus;
pub mod cost;
pub mod difference;
pub mod duration;
pub mod filter;
pub mod grid;
pub mod id;
pub mod log;
pub mod message;
pub mod moment;
pub mod nearest;
pub mod outcome;
pub mod rng;
pub mod run;
pub mod settings;
pub mod sweep;
pub mod trials;
pub mod wire;
