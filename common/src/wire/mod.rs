//! Between domain and protocol: alone reads a message's fields.
