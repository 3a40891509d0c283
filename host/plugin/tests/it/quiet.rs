//! `wasi = "quiet"`: enough WASI to start, and nothing more.

use inference::Stage;
use plugin::{LoadError, LoadReport, PluginSpec, Wasi};

use crate::house::{House, load, logged, renderer};

/// A component that imports WASI and whose `init` runs these instructions.
fn quiet(init: &str) -> PluginSpec {
    let text = include_str!("quiet.wat").replace("INIT", init);
    let component = wat::parse_str(&text).expect("the test's own component parses");
    PluginSpec { wasi: Wasi::Quiet, ..PluginSpec::new("quiet", "quiet.wat", component) }
}

fn start(init: &str) -> Result<LoadReport, LoadError> {
    load(quiet(init)).map(|plugin| plugin.report().clone())
}

fn refusal(init: &str) -> String {
    start(init).expect_err("it is refused").to_string()
}

#[test]
fn what_is_printed_goes_to_the_log_on_one_line() {
    const PRINT: &str = "(call $write (call $get-stdout) (i32.const 1024) (i32.const 21) (i32.const 64))";
    let log = logged();
    let report = start(PRINT).expect("printing is fine");
    let stages: Vec<Stage> = report.stages.iter().map(|used| used.stage).collect();
    let name = report.identity.expect("it was tried").name;
    assert_eq!((name.as_str(), stages.as_slice()), ("quiet", [Stage::Audit].as_slice()));
    let line = log.line("hello from");
    assert!(line.contains(r"hello from \u{1b}[31mWASI") && line.contains(r#"plugin="quiet""#), "{line}");
}

#[test]
fn printing_without_end_is_cut() {
    const PRINT_FOR_EVER: &str = "(loop $again
        (call $write (call $get-stdout) (i32.const 1024) (i32.const 21) (i32.const 64))
        (br $again))";
    let log = logged();
    let said = refusal(PRINT_FOR_EVER);
    // Each `get-stdout` is a resource of its own, and there is a cap on those.
    assert!(said.contains("failed to initialise"), "{said}");
    assert!(log.count("hello from") <= 64 * 1024 / 21, "{}", log.count("hello from"));
}

#[test]
fn clocks_are_coarse_and_random_is_there() {
    const CLOCK: &str = "(if (i64.ne (i64.rem_u (call $now) (i64.const 1000000)) (i64.const 0)) (then (unreachable)))
        (drop (call $random))";
    start(CLOCK).expect("the clock has whole milliseconds");
}

#[test]
fn nobody_waits_nobody_exits_and_nobody_has_a_network() {
    let said = refusal("(drop (call $wait (i64.const 1)))");
    assert!(said.contains("the guest asked to wait"), "{said}");
    let said = refusal("(drop (call $socket))");
    assert!(said.contains("the guest called `wasi:sockets/instance-network@0.2.0#instance-network`"), "{said}");
    let said = refusal("(call $exit (i32.const 0))");
    assert!(said.contains("failed to initialise (trap)"), "{said}");
}

#[test]
fn wasi_is_a_grant() {
    let spec = PluginSpec { wasi: Wasi::None, ..quiet("") };
    assert!(matches!(load(spec), Err(LoadError::WasiNotGranted { .. })));
}

#[tokio::test]
async fn a_quiet_plugin_works_beside_others() {
    let house = House::of(vec![renderer(), quiet("")]);
    assert_eq!(house.answer(&["text"]).await.expect("they behave").content, "text");
    house.wait_for("outrigger_plugin_calls_total", &["plugin=\"quiet\"", "stage=\"audit\"", "outcome=\"ok\""], 1).await;
}
