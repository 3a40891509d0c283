//! `wasi = "quiet"`: enough WASI to start, and nothing more.
