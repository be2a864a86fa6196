//! Texts of 27 symbols, by the hash of their content.
