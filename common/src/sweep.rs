//! A sweep: a named formula over one family. Only valid ones can be built.
