//! The arithmetic of training behind one safe door: the same bits on every instruction set.
