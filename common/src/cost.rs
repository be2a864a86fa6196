//! FLOPs and predicted seconds of training and validation, from shape alone.
