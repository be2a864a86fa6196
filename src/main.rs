//! `slalom`: everything a person types.

#[cfg_attr(not(test), expect(dead_code, reason = "the verbs that read a spec are yet to come"))]
mod spec;

fn main() {}
