//! Components that nobody would build: bundled ones with bits flipped or bytes missing, and made-up ones. Loading them fails
//! in words or succeeds; it never panics, and what loads is as harmless as any other guest.

use arbitrary::Unstructured;
use plugin::{LoadError, PluginSpec};
use proptest::prelude::*;

use crate::house::{House, load, renderer};
use crate::streaming::RUNTIME;

/// Loads it, and has it filter an answer where that works.
fn try_out(component: Vec<u8>) -> Result<(), LoadError> {
    let spec = PluginSpec::new("hostile", "test", component);
    let loaded = load(spec.clone())?;
    if loaded.report().stages.iter().any(|used| used.stage == inference::Stage::Prompt) {
        return Ok(());
    }
    let house = House::of(vec![renderer(), spec]);
    // Whatever comes of it, it comes back.
    drop(RUNTIME.block_on(house.answer(&["mail me at a.b@c.example", " or call"])));
    Ok(())
}

proptest! {
    // Most are refused before they are compiled; what is not takes a second in a debug build.
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 16, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..4)) {
        let mut component = bundled::STOP_WORDS.to_vec();
        for (place, bit) in flips {
            *place.get_mut(&mut component) ^= 1 << bit;
        }
        drop(try_out(component));
    }

    #[test]
    fn missing_bytes(from in any::<prop::sample::Index>(), count in 1..64_usize, ends_there in any::<bool>()) {
        let mut component = bundled::STOP_WORDS.to_vec();
        let from = from.index(component.len());
        let to = if ends_there { component.len() } else { (from + count).min(component.len()) };
        component.drain(from..to);
        drop(try_out(component));
    }

    #[test]
    fn made_up_components(seed in prop::collection::vec(any::<u8>(), 64..2048)) {
        let config = wasm_smith::Config::default();
        let Ok(component) = wasm_smith::Component::new(config, &mut Unstructured::new(&seed)) else { return Ok(()) };
        let refused = try_out(component.to_bytes());
        prop_assert!(refused.is_err(), "none has a lifecycle");
    }
}

fn repeat(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(text).collect::<Vec<_>>().concat()
}

/// Valid as components, absurd in size; each is refused in words, or harmless.
#[test]
fn absurd_components() {
    let modules = |count: usize| {
        let modules = "(core module (func (export \"f\")))".repeat(count);
        let instances = repeat(count, |module| format!("(core instance (instantiate {module}))"));
        format!("(component {modules}{instances})")
    };
    let data = format!(
        "(component (core module (memory 1024) (data (i32.const 0) \"{}\")) (core instance (instantiate 0)))",
        "x".repeat(20 << 20)
    );
    let nested = format!("(component {}{})", "(component ".repeat(90), ")".repeat(90));
    let types = {
        let lists = repeat(400, |below| format!("(type (list {below}))"));
        format!("(component (type (list u8)) {lists})")
    };
    let imports = repeat(20_000, |number| format!("(import \"a:b/c{number}\" (instance))"));
    for (what, text) in [
        ("modules", modules(1_000)),
        ("data", data),
        ("nesting", nested),
        ("types", types),
        ("imports", format!("(component {imports})")),
    ] {
        let component = wat::parse_str(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        let refused = try_out(component).expect_err(what).to_string();
        assert!(refused.contains("`hostile`") && refused.len() < 4096, "{what}: {refused}");
    }
}
