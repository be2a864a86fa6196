//! The container of everything a run needs to go on elsewhere, and each way that one is refused.
