//! A CEL expression over a point and its seed (`exclude`, `--where`), compiled once.
