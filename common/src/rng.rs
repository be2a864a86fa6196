//! Counter-based random numbers: the same bits from the same (seed, purpose, index), whoever asks and when.
