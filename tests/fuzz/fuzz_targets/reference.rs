//! Any text as a reference: what is understood has one form, and its parts stay what they were checked to be.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use model::{ModelReference, RepositoryPath, Revision};

fuzz_target!(|given: &str| {
    if let Ok(reference) = ModelReference::parse(given) {
        let canonical = reference.to_string();
        assert_eq!(ModelReference::parse(&canonical).as_ref(), Ok(&reference), "{canonical}");
        let _ = reference.default_id();
    }
    if let Ok(path) = RepositoryPath::parse(given) {
        let below = path.below(Path::new("/models"));
        let rest = below.strip_prefix("/models").expect("below");
        assert!(rest.components().all(|component| matches!(component, Component::Normal(_))));
    }
    if let Ok(revision) = Revision::parse(given) {
        let components: Vec<_> = Path::new(revision.as_str()).components().collect();
        assert!(matches!(components.as_slice(), [Component::Normal(_)]), "{revision}");
    }
});
