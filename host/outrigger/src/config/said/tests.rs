//! What is said in flags, variables and files, and what is said of mistakes in it.

use clap::CommandFactory as _;

use super::*;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    said: Said,
}

#[test]
fn every_key_is_a_flag_and_a_variable_and_a_key_of_the_file() {
    for argument in Flags::command().get_arguments() {
        let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) else { continue };
        let variable = argument.get_env().unwrap_or_else(|| panic!("--{flag} has no variable")).to_string_lossy();
        let (key, value) = match flag {
            "allowed-host" => ("allowed_hosts".to_owned(), "[\"a.example\"]"),
            "allowed-uid" => ("allowed_uids".to_owned(), "[1000]"),
            "socket-mode" => ("socket_mode".to_owned(), "\"0660\""),
            "plugin" => ("plugin".to_owned(), "[{ name = \"redact\" }]"),
            "log-format" => ("log_format".to_owned(), "\"json\""),
            "device" => ("device".to_owned(), "\"cpu\""),
            "ca-file" => ("ca_files".to_owned(), "[\"a.pem\"]"),
            "listen-insecure" | "initial-load" | "offline" | "require-explicit-token" | "plugin-watch" | "admin" => {
                (flag.replace('-', "_"), "true")
            }
            "cpus" => ("cpus".to_owned(), "\"0-1\""),
            "load" => ("load".to_owned(), "\"first-use\""),
            "kv-cache-type" => ("kv_cache_type".to_owned(), "\"q8_0\""),
            _ => (flag.replace('-', "_"), ""),
        };
        assert_eq!(variable, format!("OUTRIGGER_{}", key.to_uppercase()));
        let accepted = [value, "1", "\"x\""]
            .iter()
            .filter(|value| !value.is_empty())
            .any(|value| toml::from_str::<Said>(&format!("{key} = {value}")).is_ok());
        assert!(accepted, "the file does not know `{key}`");
    }
}

#[test]
fn an_error_names_the_line_and_the_key() {
    let error = |text| format!("{:#}", Said::from_toml(text).expect_err("no configuration"));
    let unknown = "line 1: unknown field `max_concurency`, expected one of `model`";
    assert!(error("max_concurency = 1").starts_with(unknown));
    assert_eq!(
        error("\nmax_concurrency = 'many'"),
        "line 2: `max_concurrency`: invalid type: string \"many\", expected u32"
    );
    assert!(error("[[plugin]]\nname = 1").starts_with("line 2: `plugin[0].name`: invalid type"));
    assert!(error("queue_max = ").starts_with("line 1: "));
}

#[test]
fn a_model_is_a_reference_or_tables() {
    let said = Said::from_toml("model = 'org/a'").expect("a model");
    assert!(matches!(said.models, ModelsSaid::One(reference) if reference == "org/a"));
    let text = "[[model]]\nfrom = 'org/a'\n[[model]]\nid = 'b'\nfrom = 'file:b.gguf'\nload = 'first-use'";
    let ModelsSaid::Several(tables) = Said::from_toml(text).expect("two models").models else { panic!("tables") };
    assert_eq!((tables[0].id.as_deref(), tables[1].id.as_deref()), (None, Some("b")));
    assert_eq!((tables[0].load, tables[1].load), (None, Some(Load::FirstUse)));
    assert_eq!(tables[1].lines.of(&["from".to_owned()]), Some(5));

    let error = |text| format!("{:#}", Said::from_toml(text).expect_err("no models"));
    assert_eq!(
        error("[[model]]\nfrom = 'a/b'\nload = 'late'"),
        "line 3: `model[0].load`: `late` is no time to load a model; start and first-use are"
    );
    assert!(error("[[model]]\nfrom = 'a/b'\nlisten = 'x'").starts_with("line 3: "), "of one model alone");
    let one_bracket = error("\n[model]\nfrom = 'a/b'");
    assert!(one_bracket.starts_with("line 2: ") && one_bracket.contains("two brackets"), "{one_bracket}");
    assert!(error("model = 1").contains("a model's reference in quotes"));
}

#[test]
fn every_key_of_a_model_table_is_a_key_above_it() {
    let unknown = toml::from_str::<ModelTable>("x = 1").expect_err("no such key").to_string();
    let keys: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert!(keys.len() > 15, "{unknown}");
    let above = toml::from_str::<Said>("x = 1").expect_err("no such key").to_string();
    for key in keys.iter().filter(|key| !["id", "from"].contains(key)) {
        assert!(above.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn flags_win_over_tables_and_tables_over_what_stands_above_them() {
    let file = "max_concurrency = 2\nqueue_max = 3\n[[model]]\nfrom = 'a/b'\nmax_concurrency = 4\nqueue_max = 5";
    let flags = Said { queue_max: Some(6), ..Said::default() };
    let both = flags.or(Said::from_toml(file).expect("a file"));
    let ModelsSaid::Several(tables) = &both.models else { panic!("tables") };
    let table = tables[0].clone().or(ModelTable::of(&both));
    assert_eq!((table.max_concurrency, table.queue_max), (Some(4), Some(6)));
}

// R3
#[test]
fn a_token_is_in_no_error_and_no_debug_output() {
    for text in [
        "hf_token = hf_secret",
        "\nhf_tokn = \"hf_secret\"",
        "hf_token = [\"hf_secret\"]",
        "hf_token = 731_731_731",
        "token = { a = \"hf_secret\" }",
    ] {
        let error = format!("{:#}", Said::from_toml(text).expect_err("not a token"));
        assert!(error.starts_with(if text.starts_with('\n') { "line 2: " } else { "line 1: " }), "{error}");
        assert!(!error.contains("hf_secret") && !error.contains("731"), "{error}");
    }
    let said = Said::from_toml("hf_token = \"hf_secret\"").expect("a token");
    assert!(!format!("{said:?}").contains("hf_secret"));
}

#[test]
fn flags_win_over_the_file() {
    let flags = Said { max_concurrency: Some(2), ..Said::default() };
    let file = Said { max_concurrency: Some(3), queue_max: Some(4), ..Said::default() };
    let both = flags.or(file);
    assert_eq!((both.max_concurrency, both.queue_max), (Some(2), Some(4)));
}
