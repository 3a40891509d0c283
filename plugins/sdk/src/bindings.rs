//! Generated from `wit/plugin.wit`: the types of the contract and what the host offers.
#![expect(missing_docs, reason = "generated; the documentation is in plugin.wit")]
#![expect(clippy::same_length_and_capacity, reason = "generated: how the canonical ABI hands over lists")]

wit_bindgen::generate!({
    path: "../../wit",
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
