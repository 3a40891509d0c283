//! What a manifest asks, what the operator grants, and what is said of the difference.

use std::sync::Arc;
use std::time::Duration;

use inference::Stage;
use plugin::{Grant, GrantState, Limits, LoadError, LoadReport, Manifest, Modify, PluginSpec};

use crate::house::{guest, load, model, sandbox};

const ABOUT: &str = "[plugin]\nname = \"misbehaving\"\nversion = \"0.1.0\"\ndescription = \"Misbehaves.\"\n";

/// The test guest with a manifest.
fn asking(rest: &str) -> PluginSpec {
    let parsed = Manifest::parse("guest.plugin.toml", &format!("{ABOUT}{rest}"), |_| Err("names a file".to_owned()));
    PluginSpec { manifest: Some(Arc::new(parsed.expect("a manifest"))), ..guest("guest", "{}") }
}

fn refusal(spec: PluginSpec) -> String {
    load(spec).err().expect("it must not load").to_string()
}

fn report(spec: PluginSpec) -> LoadReport {
    load(spec).expect("it loads").report().clone()
}

#[test]
fn what_is_needed_and_not_granted_is_told_with_what_to_write() {
    let asks = "[asks]\nmodify = [{ name = \"messages\", reason = \"to mask what users write\" }]\nheaders = [\"x-tenant\"]\n\
                [asks.limits]\ninit_ms = 900\n";
    insta::assert_snapshot!("ungranted", refusal(asking(asks)));
    let granted = PluginSpec { modify: vec![Modify::Messages], headers: vec!["x-tenant".to_owned()], ..asking(asks) };
    insta::assert_snapshot!("limit-ungranted", refusal(granted));
}

#[test]
fn what_is_optional_is_done_without() {
    let report =
        report(asking("[[asks.modify]]\nname = \"tools\"\nrequired = false\nreason = \"to offer a calculator\"\n"));
    let declined: Vec<_> = report.declined().map(Grant::describe).collect();
    assert_eq!(declined, ["to change a request's `tools`"]);
    assert_eq!(report.toml_for_declined(), "[[plugin]]\nname = \"guest\"\n\n[plugin.grants]\nmodify = [\"tools\"]\n");
    let granted = |state| report.grants.iter().filter(|grant| grant.state == state).count();
    assert_eq!((granted(GrantState::Declined), granted(GrantState::Unasked)), (1, 3), "{:?}", report.grants);
}

#[test]
fn stages_and_their_places_are_the_authors_unless_the_operator_says() {
    let suggested = asking("[stages]\npolicy = 20\npostprocess = { order = 80 }\n");
    let used = |spec: PluginSpec| report(spec).stages.iter().map(|used| (used.stage, used.order)).collect::<Vec<_>>();
    assert_eq!(used(suggested.clone()), [(Stage::Policy, 20), (Stage::Postprocess, 80)]);
    let operator = PluginSpec { stages: Some(vec![(Stage::Audit, 3)]), ..suggested };
    assert_eq!(used(operator.clone()), [(Stage::Audit, 3)]);
    let unused = [Stage::Policy, Stage::Prompt, Stage::TokenControl, Stage::Parse, Stage::Postprocess];
    assert_eq!(report(operator).stages_unused, unused);
}

#[test]
fn what_is_left_with_nothing_to_do_is_refused() {
    let alone = asking("[stages]\ntoken-control = 0\n[asks]\ntoken-control = { required = false }\n");
    let said = refusal(alone.clone());
    assert!(said.contains("would do nothing; add `token-control = true`"), "{said}");
    let granted = PluginSpec { token_control: true, ..alone };
    assert_eq!(report(granted.clone()).notes, [""; 0]);
    let limits = Limits { step_cpu_max: Duration::from_mins(1), ..Limits::default() };
    assert_eq!(
        report(PluginSpec { limits, ..granted }).notes,
        ["its limit `step_ms` is 60000, and no answer waits longer than 10000 ms for a step"]
    );
}

#[test]
fn a_manifest_that_is_not_the_components_is_refused() {
    let component = wat::parse_str(
        r#"(component (instance $i)
            (export "outrigger:plugin/lifecycle@0.1.0" (instance $i)) (export "outrigger:plugin/policy@0.1.0" (instance $i)))"#,
    );
    let spec = PluginSpec { component: component.expect("it parses").into(), ..asking("[stages]\naudit = 0\n") };
    assert_eq!(
        refusal(spec),
        "the manifest guest.plugin.toml of plugin `guest` names the stage `audit`, and the component exports `policy`; they \
         belong to different versions, or the manifest is wrong"
    );
    let pinned = format!("sha256 = \"{}\"\n", "0".repeat(64));
    assert!(matches!(load(asking(&pinned)), Err(LoadError::OtherManifest { .. })));
    let other = format!("{ABOUT}[stages]\npolicy = 0\n").replace("0.1.0", "0.2.0");
    let other = Manifest::parse("m", &other, |_| Err("names a file".to_owned())).expect("a manifest");
    let noted = report(PluginSpec { manifest: Some(Arc::new(other)), ..guest("guest", "{}") });
    assert_eq!(noted.notes, ["the manifest is of misbehaving 0.2.0, and the component calls itself misbehaving 0.1.0"]);
}

#[test]
fn a_configuration_is_judged_before_anything_runs() {
    let schema = "[config.schema]\ntype = \"object\"\nadditionalProperties = false\n\
                  [config.schema.properties]\nbehaviour = { type = \"string\" }\nmask = { type = \"string\", minLength = 3 }\n";
    let with = |config: &str| PluginSpec { config_json: config.to_owned(), ..asking(schema) };
    // This guest would never return from `init`: the schema comes first.
    assert_eq!(
        refusal(with(r#"{"behaviour": "loop-in-init", "mask": "a", "other": 1}"#)),
        "the configuration of plugin `guest` is not what the plugin takes: [plugin.config]: Additional properties are not \
         allowed ('other' was unexpected); `config.mask`: value is shorter than 3 characters"
    );
    report(with(r#"{"mask": "abc"}"#));
}

#[test]
fn a_report_of_what_was_refused_says_how_far_it_came() {
    let (report, result) = sandbox().examine(asking("[asks]\nheaders = [\"x-tenant\"]\n"), &model());
    assert!(result.is_err());
    assert!(report.sha256.is_some() && report.trial.is_none() && report.code.is_none());
    let digest = report.sha256.clone().expect("it was read");
    let size = report.size_bytes.to_string();
    insta::assert_snapshot!("report-refused", report.to_string().replace(&digest, "DIGEST").replace(&size, "SIZE"));
}
