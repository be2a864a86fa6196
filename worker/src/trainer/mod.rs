//! A run, step by step: corpus and settings in, milestones and checkpoints out.
