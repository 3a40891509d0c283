//! Instances that serve several requests, where the operator says so.

use std::time::Duration;

use inference::Stage;
use plugin::{PluginSpec, Reuse, Sandbox, SandboxConfig};

use crate::house::{House, guest_for, renderer};

fn house(reuse: Option<Reuse>, more: &str) -> House {
    let config = format!(r#"{{"script": "remember"{more}}}"#);
    let spec = PluginSpec { reuse, ..guest_for(&[Stage::Policy, Stage::Postprocess], "guest", &config) };
    let sandbox = Sandbox::new(SandboxConfig { idle_instances: 2, ..SandboxConfig::default() }).expect("a sandbox");
    House::within(&sandbox, vec![spec, renderer()])
}

/// How many requests the instance of each of ten requests had seen.
async fn seen(house: &House) -> Vec<u32> {
    let mut seen = Vec::new();
    for _ in 0..10 {
        if let Ok(answer) = house.answer(&["a", "b"]).await {
            assert_eq!(answer.content, "ab", "a filter begins anew");
            seen.push(answer.notes[0].1.parse().expect("a number"));
        }
        // An instance goes back after the answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen
}

#[tokio::test]
async fn instances_are_reused_only_where_it_is_said() {
    assert_eq!(seen(&house(None, "")).await, [1; 10]);
}

#[tokio::test]
async fn instances_are_reused_as_often_as_it_is_said() {
    let house = house(Some(Reuse { requests_max: 4, ..Reuse::default() }), "");
    assert_eq!(seen(&house).await, [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]);
    assert_eq!(house.count("outrigger_plugin_instances{", &["guest"]), 1, "the one that waits");
    drop(house);
}

#[tokio::test]
async fn one_that_waited_too_long_or_grew_too_much_is_dropped() {
    let idle = house(Some(Reuse { idle_time_max: Duration::ZERO, ..Reuse::default() }), "");
    assert_eq!(seen(&idle).await, [1; 10]);
    // 300 KiB, which the guest has to ask for.
    let growth = house(Some(Reuse { growth_bytes_max: 0, ..Reuse::default() }), r#", "grow": 300000"#);
    assert_eq!(seen(&growth).await, [1; 10]);
}

/// Nobody comes any more, so nobody looks by the way.
#[tokio::test]
async fn one_that_waits_too_long_ends_without_another_request() {
    let house = house(Some(Reuse { idle_time_max: Duration::from_millis(800), ..Reuse::default() }), "");
    assert_eq!(seen(&house).await, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(house.count("outrigger_plugin_instances{", &["guest"]), 1, "the one that waits");
    house.wait_for("outrigger_plugin_instances{", &["guest"], 0).await;
    assert_eq!(seen(&house).await[..2], [1, 2], "a new one");
    house.wait_for("outrigger_plugin_instances{", &["guest"], 0).await;
}

#[tokio::test]
async fn one_that_failed_is_dropped() {
    let house = house(Some(Reuse::default()), r#", "behaviour": "internal-in-finish""#);
    assert_eq!(seen(&house).await, [0; 0], "every request fails at its end");
    assert_eq!(house.count("outrigger_plugin_instances{", &["guest"]), 0);
}
