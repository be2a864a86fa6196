//! One axis of a grid: its values, and the one grammar that people write them in.
