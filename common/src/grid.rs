//! The product of five axes minus exclusions: numbers that decode to coordinates, never a list.
