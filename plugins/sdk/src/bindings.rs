//! Generated from `wit/plugin.wit`: the types of the contract, and what the host offers. The stages' own bindings stand
//! with the stages (`stages/`), each for itself: what a component exports is decided by `export!`, and no more of the
//! contract than that may be in it.
#![expect(missing_docs, reason = "generated; the documentation is in plugin.wit")]
#![expect(clippy::same_length_and_capacity, reason = "generated: how the canonical ABI hands over lists")]

wit_bindgen::generate!({
    path: "wit",
    inline: "
        package outrigger:sdk;
        world sdk {
            include outrigger:plugin/host@0.1.0;
            import outrigger:plugin/types@0.1.0;
        }
    ",
    generate_all,
    generate_unused_types: true,
    additional_derives: [PartialEq],
});
