//! Plugins: WebAssembly components run in a wasmtime sandbox.
