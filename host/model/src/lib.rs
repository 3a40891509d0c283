//! Models at rest: references, GGUF headers, footprint.
