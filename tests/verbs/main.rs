//! What a person types, where no other process is needed: words, streams and exit codes. Sweeps over several processes
//! are `tests/system`'s.

mod bench;
mod corpora;
mod help;
mod person;
mod refusals;
mod sweeps;
mod train;
