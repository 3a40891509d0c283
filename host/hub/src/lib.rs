//! The Hugging Face Hub as a client sees it: what a repository holds, and the bytes of its files.
