//! What a plugin keeps and counts by way of the host: within its grant, and nobody else's.

use inference::Stage;
use plugin::{InstrumentKind, PluginSpec, Plugins, SetError};
use telemetry::Metrics;

use crate::house::{House, guest, guest_for, instrument, load, renderer, sandbox};

fn scripted(name: &str, script: &str) -> PluginSpec {
    guest_for(&[Stage::Policy], name, &format!(r#"{{"script": "{script}"}}"#))
}

/// The answers to a script's calls, in a house of its own.
async fn answers(name: &str, script: &str) -> Vec<String> {
    let house = House::of(vec![scripted(name, script), renderer()]);
    asked(&house).await
}

async fn asked(house: &House) -> Vec<String> {
    let answer = house.answer(&["x"]).await.expect("the guest behaves");
    answer.notes.into_iter().map(|(_, said)| said).collect()
}

#[tokio::test]
async fn stores_refuse_as_values() {
    let script = "set other a 1; get store a; set store a 1; get store a; delete store a; get store a; set store a 1 0; \
                  get store a; add store n 5; add store n -7; set store n text; add store n 1; set store k*1048576 1; \
                  set store k x*100000; get store k*1048576";
    let expected = [
        "Err(Error::NoSuchStore)",
        "Ok(None)",
        "Ok(())",
        "Ok(Some(\"1\"))",
        "Ok(())",
        "Ok(None)",
        "Ok(())",
        "Ok(None)",
        "Ok(5)",
        "Ok(-2)",
        "Ok(())",
        "Err(Error::Invalid)",
        "Err(Error::Invalid)",
        "Err(Error::Quota)",
        "Err(Error::Invalid)",
    ];
    assert_eq!(answers("bounds", script).await, expected);
    assert_eq!(
        answers("flood", "fill store; set store one-more 1; add store one-more 1").await[..3],
        ["100", "Err(Error::Quota)", "Err(Error::Quota)"]
    );
}

#[tokio::test]
async fn a_store_is_shared_by_instances_and_generations_and_by_no_other_plugin() {
    let house = || House::of(vec![scripted("shared", "add store n 1"), renderer()]);
    let first = house();
    assert_eq!(asked(&first).await, ["Ok(1)"]);
    assert_eq!(asked(&first).await, ["Ok(2)"], "another instance");
    let second = house();
    assert_eq!(asked(&second).await, ["Ok(3)"], "another generation");
    assert_eq!(asked(&first).await, ["Ok(4)"], "while requests with the one before still run");
    assert_eq!(answers("neighbour", "add store n 1").await, ["Ok(1)"]);
    drop((first, second));
    assert_eq!(asked(&house()).await, ["Ok(1)"], "nobody had it loaded any more");
}

/// What is only tried may be refused, and is no request: it leaves what the plugins keep as it is.
#[tokio::test]
async fn a_trial_writes_to_no_store() {
    let counting = |behaviour: &str| {
        let config = format!(r#"{{"script": "add store n 1", "behaviour": "{behaviour}"}}"#);
        guest_for(&[Stage::Policy], "tried", &config)
    };
    let house = House::of(vec![counting("script-in-init"), renderer()]);
    assert_eq!(asked(&house).await, ["Ok(2)"], "the request's own `init`, and its policy");
    for _ in 0..3 {
        load(counting("script-in-init")).expect("it loads");
    }
    let reader = House::of(vec![counting(""), renderer()]);
    assert_eq!(asked(&reader).await, ["Ok(3)"]);
}

#[tokio::test]
async fn adding_at_once_loses_nothing() {
    let house = House::of(vec![scripted("busy", "add-many store n 1000"), renderer()]);
    let (a, b, c, d) = tokio::join!(asked(&house), asked(&house), asked(&house), asked(&house));
    assert_eq!([a.len(), b.len(), c.len(), d.len()], [1; 4]);
    let reader = House::of(vec![scripted("busy", "add store n 0"), renderer()]);
    assert_eq!(asked(&reader).await, ["Ok(4000)"]);
}

#[tokio::test]
async fn instruments_count_what_was_granted_and_nothing_else() {
    let script = "count counted 2.5 kind=a; count counted 1 kind=a; observe seen 5 kind=b; count unknown 1 kind=a; \
                  count seen 1 kind=a; count counted 1; count counted 1 sort=a; count counted -1 kind=a; count counted NaN kind=a";
    let house = House::of(vec![scripted("counting", script), renderer()]);
    asked(&house).await;
    let sample = |name: &str, kind: &str| {
        house.sample(&format!("outrigger_plugin_custom_{name}{{plugin=\"counting\",kind=\"{kind}\"}}"))
    };
    assert_eq!(sample("counted_total", "a").as_deref(), Some("3.5"));
    assert_eq!((sample("seen_sum", "b").as_deref(), sample("seen_count", "b").as_deref()), (Some("5.0"), Some("1")));
    assert_eq!(sample("seen_count", "a"), None, "a histogram is no counter");
    for (reason, count) in [("undeclared", 2), ("labels", 2), ("value", 2)] {
        let labels = ["plugin=\"counting\"", &format!("reason=\"{reason}\"")];
        assert_eq!(house.count("outrigger_plugin_custom_dropped_total", &labels), count, "{reason}");
    }
}

#[tokio::test]
async fn labels_cannot_multiply_without_end() {
    let script = "series counted kind 300; count counted 1 kind=x*100000";
    let house = House::of(vec![scripted("bomb", script), renderer()]);
    asked(&house).await;
    let name = "outrigger_plugin_custom_counted_total{plugin=\"bomb\"";
    let sample = |kind: &str| house.sample(&format!("{name},kind=\"{kind}\"}}"));
    assert_eq!(sample("value 2").as_deref(), Some("1.0"));
    assert_eq!(sample("value 3"), None);
    assert_eq!(sample("other").as_deref(), Some("298.0"), "no value is lost");
}

#[tokio::test]
async fn two_plugins_cannot_disagree_on_a_family() {
    let other = PluginSpec {
        instruments: vec![instrument("counted", InstrumentKind::Histogram)],
        ..guest_for(&[Stage::Policy], "other", "{}")
    };
    let loaded = [other, guest("guest", "{}")].map(|spec| load(spec).expect("each by itself is sound"));
    let Err(error) = Plugins::new(sandbox(), loaded.into(), Metrics::new(&[]).plugins) else { panic!("accepted") };
    assert!(matches!(&error, SetError::Instrument { instrument, .. } if instrument == "counted"), "{error}");
}
