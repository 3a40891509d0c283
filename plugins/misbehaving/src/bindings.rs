//! What wit-bindgen generates from the contract, and nothing else.

#![expect(unsafe_code, clippy::pedantic, reason = "generated code")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "full-plugin",
});

export!(Misbehaving);

use super::Misbehaving;
