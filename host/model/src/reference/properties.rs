//! What holds for every text that anyone may write.

use std::path::{Component, Path};

use proptest::prelude::*;

use super::{FileChoice, HubReference, ModelReference, RepositoryPath, Revision};

/// Texts that look like references, with all that means something in them.
fn nearly_a_reference() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("hf:".to_owned()),
        Just("hf.co/".to_owned()),
        Just("file:".to_owned()),
        Just("https://huggingface.co/".to_owned()),
        Just("/blob/".to_owned()),
        Just("a/b/resolve/main/".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%00".to_owned()),
        Just("@latest".to_owned()),
        Just("@main".to_owned()),
        Just(".gguf".to_owned()),
        Just("..".to_owned()),
        "[/:@.\\\\~ -]",
        "[a-zA-Z0-9_]{1,4}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// References as people write them.
fn reference() -> impl Strategy<Value = String> {
    let prefix =
        prop_oneof![Just(""), Just("hf:"), Just("huggingface:"), Just("hf.co/"), Just("https://huggingface.co/")];
    let rest = prop_oneof![
        Just(String::new()),
        ":[a-zA-Z0-9][a-zA-Z0-9_]{0,8}",
        "/([a-z@ é+]{1,6}/){0,3}[a-z@#%]{1,6}\\.(gguf|GGUF)",
    ];
    let revision =
        prop_oneof![Just(String::new()), Just("@latest".to_owned()), Just("@main".to_owned()), "@[a-z0-9]{1,40}"];
    (prefix, "[a-zA-Z0-9_]{1,8}/[a-zA-Z0-9]([.-]?[a-zA-Z0-9_]){0,8}", rest, revision)
        .prop_map(|(prefix, name, rest, revision)| format!("{prefix}{name}{rest}{revision}"))
}

fn check_canonical(given: &str) -> Result<(), TestCaseError> {
    let Ok(reference) = ModelReference::parse(given) else { return Ok(()) };
    let canonical = reference.to_string();
    let again = ModelReference::parse(&canonical);
    prop_assert_eq!(again.as_ref(), Ok(&reference), "{:?} as {:?}", given, canonical);
    prop_assert_eq!(again.expect("checked").to_string(), canonical);
    Ok(())
}

/// A single component that is a name.
fn is_one_name(text: &str) -> bool {
    let components: Vec<_> = Path::new(text).components().collect();
    matches!(components.as_slice(), [Component::Normal(name)] if *name == text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // R10
    #[test]
    fn any_text_is_answered_and_what_is_understood_has_one_form(given in prop_oneof![nearly_a_reference(), any::<String>()]) {
        check_canonical(&given)?;
    }

    #[test]
    fn what_people_write_is_understood(given in reference()) {
        prop_assert!(ModelReference::parse(&given).is_ok(), "{:?}", ModelReference::parse(&given));
        check_canonical(&given)?;
    }

    // R9
    #[test]
    fn a_path_of_a_repository_stays_inside(given in prop_oneof![nearly_a_reference(), any::<String>(), "([a.]{1,3}/?){1,5}"]) {
        let Ok(path) = RepositoryPath::parse(&given) else { return Ok(()) };
        let below = path.below(Path::new("/models/org/model/main"));
        let rest = below.strip_prefix("/models/org/model/main").expect("it starts there");
        prop_assert!(rest.components().all(|component| matches!(component, Component::Normal(_))));
        prop_assert_eq!(rest.components().count(), path.as_str().split('/').count());
        prop_assert_eq!(rest.to_str(), Some(path.as_str()));
        prop_assert_eq!(RepositoryPath::parse(path.as_str()), Ok(path));
    }

    // R12
    #[test]
    fn a_revision_is_one_name(given in prop_oneof![nearly_a_reference(), any::<String>(), "[a.-]{1,6}"]) {
        let Ok(revision) = Revision::parse(&given) else { return Ok(()) };
        prop_assert!(is_one_name(revision.as_str()), "{revision:?}");
        prop_assert!(!revision.as_str().starts_with(['-', '.']));
    }

    #[test]
    fn an_owner_and_a_name_are_one_name_each(given in prop_oneof![nearly_a_reference(), reference()]) {
        let Ok(HubReference { repository, choice, .. }) = HubReference::parse(&given) else { return Ok(()) };
        prop_assert!(is_one_name(repository.org()) && is_one_name(repository.model()), "{repository}");
        if let FileChoice::File(path) = choice {
            prop_assert!(path.as_str().to_ascii_lowercase().ends_with(".gguf"));
        }
    }
}
