//! The component itself, in the host's own sandbox: for what the cases beside this file cannot say.

use outrigger_plugin_test::Component;

#[test]
fn a_long_answer_costs_its_length() {
    let plugin = Component::build(env!("CARGO_MANIFEST_DIR")).unwrap();
    let masked = |words: usize| plugin.answer("Oh fudge! ".repeat(words)).run().unwrap();
    let (short, long) = (masked(10), masked(1_000));
    assert_eq!(long.output, "Oh […]! ".repeat(1_000));
    // The same on every machine.
    assert!(long.used.instructions < 100 * short.used.instructions, "{:?} and {:?}", short.used, long.used);
}
