use super::*;

fn check(given: &str, expected: Result<&str, &str>) {
    let parsed = ModelReference::parse(given).map(|reference| reference.to_string());
    let parsed = parsed.map_err(|error| error.to_string());
    assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{given}");
    if let Ok(canonical) = parsed {
        let again = ModelReference::parse(&canonical).expect("the canonical form");
        assert_eq!(again, ModelReference::parse(given).expect("parsed above"), "{given}");
    }
}

// R10
#[test]
fn files_are_named_by_path() {
    check("file:/models/a.gguf", Ok("file:/models/a.gguf"));
    check("file:a.gguf", Ok("file:a.gguf"));
    check("file:///models/a.gguf", Ok("file:/models/a.gguf"));
    check(" file:a b.gguf ", Ok("file:a b.gguf"));
}

// R10, R11
#[test]
fn every_spelling_has_one_canonical_form() {
    for prefix in ["", "hf:", "huggingface:", "hf.co/", "huggingface.co/", "https://huggingface.co/"] {
        check(&format!("{prefix}acme/tiny"), Ok("acme/tiny"));
        check(&format!("{prefix}acme/tiny@main"), Ok("acme/tiny"));
        check(&format!("{prefix}acme/tiny@latest"), Ok("acme/tiny"));
        check(&format!("{prefix}acme/tiny:Q4_K_M@v1.0"), Ok("acme/tiny:Q4_K_M@v1.0"));
        check(&format!("{prefix}acme/tiny/sub/a.gguf@v1"), Ok("acme/tiny/sub/a.gguf@v1"));
    }
    check("acme/tiny:q4_k_m", Ok("acme/tiny:Q4_K_M"));
    // Found by fuzzing: called like a file, or like a prefix.
    check("hf:huggingface.co/tiny", Ok("hf:huggingface.co/tiny"));
    check("hf:acme/tiny.gguf", Ok("hf:acme/tiny.gguf"));
    check("hf.co/acme/tiny@v1.gguf", Ok("hf:acme/tiny@v1.gguf"));
    check("acme/tiny/a@b.gguf", Ok("acme/tiny/a@b.gguf@main"));
    check("acme/tiny/a@b/c.gguf@v1", Ok("acme/tiny/a@b/c.gguf@v1"));
    check("acme/tiny/a.gguf@b.gguf", Ok("acme/tiny/a.gguf@b.gguf"));
    check("acme/tiny.v2-GGUF", Ok("acme/tiny.v2-GGUF"));
}

#[test]
fn what_a_browser_shows_is_a_reference() {
    let page = "https://huggingface.co/acme/tiny";
    check(&format!("{page}/blob/main/sub/a.gguf"), Ok("acme/tiny/sub/a.gguf"));
    check(&format!("{page}/resolve/v1/a.gguf?download=true"), Ok("acme/tiny/a.gguf@v1"));
    check(&format!("{page}/tree/v1"), Ok("acme/tiny@v1"));
    check(&format!("{page}/tree/v1/"), Ok("acme/tiny@v1"));
    // Without a site it is a folder of that name.
    check("acme/tiny/blob/main/a.gguf", Ok("acme/tiny/blob/main/a.gguf"));
    assert!(ModelReference::parse(&format!("{page}/blob/main/README.md")).is_err());
    assert!(ModelReference::parse(&format!("{page}/blob/../a.gguf")).is_err());
}

#[test]
fn what_a_browser_escapes_is_read_once() {
    for site in ["https://huggingface.co", "https://hf.co", "huggingface.co", "hf.co"] {
        let page = format!("{site}/acme/tiny");
        check(&format!("{page}/blob/main/a%20b.gguf"), Ok("acme/tiny/a b.gguf"));
        check(&format!("{page}/resolve/v1/s%C3%BCb/a%2Bb%23c.gguf?download=true"), Ok("acme/tiny/süb/a+b#c.gguf@v1"));
        check(&format!("{page}/blob/main/100%2525.gguf"), Ok("acme/tiny/100%25.gguf"));
        check(&format!("{page}/blob/main/100%.gguf"), Ok("acme/tiny/100%.gguf"));
        check(&format!("{page}/blob/main/a%40b.gguf"), Ok("acme/tiny/a@b.gguf@main"));
        check(&format!("{page}/tree/v1%2E0"), Ok("acme/tiny@v1.0"));
        for trick in [
            "blob/main/%2e%2e/a.gguf",
            "blob/main/.%2E/a.gguf",
            "blob/main/..%2Fa.gguf",
            "blob/main/%2Fa.gguf",
            "blob/main/sub%2fa.gguf",
            "blob/main/a%5Cb.gguf",
            "blob/main/a%00.gguf",
            "blob/main/a%0A.gguf",
            "blob/main/a%ff.gguf",
            "blob/main/%2Ecache/a.gguf",
            "blob/%2E%2E/a.gguf",
            "tree/refs%2Fpr%2F1",
            "tree/%00",
        ] {
            assert!(ModelReference::parse(&format!("{page}/{trick}")).is_err(), "{page}/{trick}");
        }
    }
    // Elsewhere a `%` is a letter of a file's name.
    check("acme/tiny/a%20b.gguf", Ok("acme/tiny/a%20b.gguf"));
    check("https://huggingface.co/acme/tiny/a%20b.gguf", Ok("acme/tiny/a%20b.gguf"));
    let slash = "`sub%2fa.gguf` cannot be a part of an address: it holds an encoded `/`, which no file's name does";
    check("hf.co/acme/tiny/blob/main/sub%2fa.gguf", Err(slash));
}

#[test]
fn an_address_of_another_site_is_no_reference() {
    for address in ["http://huggingface.co/acme/tiny", "https://hub.example/acme/tiny", "hf://acme/tiny"] {
        check(
            address,
            Err(&format!(
                "`{address}` is not a model reference; write org/model[:QUANT][@revision], or file:/path/to/model.gguf"
            )),
        );
    }
}

#[test]
fn the_default_id_is_what_a_client_would_write() {
    let id = |given| ModelReference::parse(given).expect("a reference").default_id();
    assert_eq!(id("file:/m/SmolLM2.Q4_1.gguf"), "SmolLM2.Q4_1");
    assert_eq!(id("hf:acme/tiny@v1"), "acme/tiny");
    assert_eq!(id("acme/tiny:q8_0@v1"), "acme/tiny:Q8_0");
    assert_eq!(id("acme/tiny/sub/a.gguf"), "acme/tiny");
}

#[test]
fn what_is_not_a_reference_is_answered_with_one() {
    check(
        "",
        Err("the model reference is empty; write org/model of the Hugging Face Hub, or file:/path/to/model.gguf"),
    );
    check("file:", Err("`file:` names no path; write file:/path/to/model.gguf"));
    check(
        "models/a.gguf",
        Err(
            "`models/a.gguf` looks like a path; write file:models/a.gguf, or org/model for a model of the Hugging Face Hub",
        ),
    );
    check("a", Err("`a` is not a model reference; write org/model[:QUANT][@revision], or file:/path/to/model.gguf"));
}

// R12, R30
#[test]
fn revisions_that_are_no_directory_name_are_refused() {
    let why =
        "a revision consists of letters, digits, `_`, `-` and inner `.`, at most 200; the commit's SHA is always safe";
    for revision in ["", "..", "../x", "a/b", ".a", "a.", "-a", "a..b", "a b", "a\\b", "a\0b", "é"] {
        let shown = format!("`{revision}` cannot be a revision: {why}");
        check(&format!("acme/tiny@{revision}"), Err(&shown));
    }
}
