//! The character LSTM as a reader of the paper would write it.
