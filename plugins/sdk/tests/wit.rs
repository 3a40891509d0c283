//! The contract in this crate is the repository's. A copy, because the crate has to build where the repository is not.

#[test]
fn the_contract_is_the_repository_s() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/wit/plugin.wit");
    let there = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/plugin.wit");
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    assert!(read(here) == read(there), "{here} differs from {there}; copy it: cp wit/plugin.wit plugins/sdk/wit/");
}
