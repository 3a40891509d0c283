//! The scheduler and the one decode thread.
