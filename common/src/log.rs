//! The subscriber and the fleet's events, one function each.
