//! What the sandbox costs, with the bundled plugins: `cargo bench -p plugin`. With folders of plugins, what each of them costs:
//! `cargo bench -p plugin -- FOLDER…`.
//!
//! Times are wall-clock medians of many runs, with the 99th percentile beside them; on a busy machine the median holds
//! and the percentile shows the neighbours.

use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{
    Call, ChatRequest, Finish, Message, ModelCard, Part, Pipeline, RequestId, Role, Sampling, SpecialTokens, Stage,
    Token, Usage, Vocabulary,
};
use plugin::probe::{self, Probe};
use plugin::{
    InstrumentKind, InstrumentSpec, KvGrant, Limits, LoadedPlugin, ModelContext, Modify, Package, PluginSpec, Plugins,
    Sandbox, SandboxConfig, Wasi,
};
use telemetry::Metrics;
use tokio::runtime::Runtime;

/// Pieces of one answer, as a model of 64 tokens gives them.
const PUSHES: usize = 64;
/// Calls of the host in one request.
const ADDS: usize = 1_000;
/// Streams at once, and the pace of each, for the latency under load.
const STREAMS: usize = 64;
const PACE: Duration = Duration::from_millis(20);

fn main() {
    // Cargo adds `--bench`.
    let folders: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if !folders.is_empty() {
        return folders.iter().for_each(|folder| one(folder));
    }
    let sandbox = Sandbox::new(SandboxConfig::default()).expect("a sandbox");
    let load = |spec| sandbox.load(spec, &model()).expect("a bundled plugin loads");
    let template = load(PluginSpec::new("chat-template", "bundled", bundled::CHAT_TEMPLATE));
    let redact = load(PluginSpec::new("redact", "bundled", bundled::REDACT));
    let plain = |name: &str, stages: &[Stage]| {
        let stages = Some(stages.iter().map(|&stage| (stage, 0)).collect());
        let (kv, instruments) = (vec![KvGrant::new("store")], vec![counter()]);
        load(PluginSpec { stages, kv, instruments, ..PluginSpec::new(name, "bundled", bundled::MISBEHAVING) })
    };
    let together = |plugins: Vec<LoadedPlugin>| {
        Plugins::new(&sandbox, plugins, Metrics::new(&[]).plugins).expect("they work together")
    };

    println!("{:<66} {:>10} {:>10}", "", "median", "p99");
    for plugin in [&redact, &template] {
        let name = &plugin.report().name;
        report(
            &format!("instantiate, init and drop `{name}`"),
            1,
            &measure(2_000, || assert!(probe::instantiate(plugin).is_some())),
        );
    }

    let policy = together(vec![plain("plain", &[Stage::Policy, Stage::Prompt])]);
    let request = chat(10, 1_024);
    let prepare = || drop(black_box(probe(&policy).prepare(request.clone()).expect("it accepts")));
    report("a policy and a plain prompt over 10 messages of 1 KiB, fresh instance", 1, &measure(1_000, prepare));

    let bare = together(vec![plain("plain", &[Stage::Prompt]), plain("filter", &[Stage::Postprocess])]);
    report("push through one filter that does nothing", PUSHES, &pushes(&bare));
    let redacted = together(vec![plain("plain", &[Stage::Prompt]), redact.clone()]);
    report("push through `redact`", PUSHES, &pushes(&redacted));
    let both = together(vec![template.clone(), redact.clone()]);
    report("push through `chat-template` and `redact`", PUSHES, &pushes(&both));

    let short = chat(2, 40);
    let prepare = || drop(black_box(probe(&both).prepare(short.clone()).expect("it renders")));
    report("prepare with `chat-template`, two short messages, fresh instance", 1, &measure(1_000, prepare));
    report("a whole request through both, 64 pushes", 1, &measure(500, || whole(&both, &short)));

    let adding = together(vec![load(PluginSpec {
        config_json: format!(r#"{{"script": "add-many store n {ADDS}"}}"#),
        stages: Some(vec![(Stage::Policy, 0), (Stage::Prompt, 0)]),
        kv: vec![KvGrant::new("store")],
        instruments: vec![counter()],
        ..PluginSpec::new("adding", "bundled", bundled::MISBEHAVING)
    })]);
    let prepare = || drop(black_box(probe(&adding).prepare(short.clone()).expect("it accepts")));
    report("`kv.add` from a guest", ADDS, &measure(200, prepare));
    let both_threads = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| measure(200, prepare)));
        threads.map(|thread| thread.join().expect("it accepts")).concat()
    });
    report("the same, from two threads into one number", ADDS, &both_threads);

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    report(
        "push through both and the thread hop, one stream",
        1,
        &runtime.block_on(stream(&both, 2_000, Duration::ZERO)),
    );
    report(
        &format!("the same, {STREAMS} streams of {} pushes/s", 1_000 / PACE.as_millis()),
        1,
        &streams(&runtime, &Arc::new(both)),
    );
}

/// A plugin with a policy or a filter, with all that a guest of any language may have.
fn one(folder: &str) {
    let cache = tempfile::tempdir().expect("a folder");
    let config = SandboxConfig { cache_dir: Some(cache.path().to_owned()), ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let package = Package::read(Path::new(folder), 64 << 20).expect("a plugin's folder");
    let spec = || PluginSpec {
        manifest: package.manifest.clone(),
        wasi: Wasi::Quiet,
        modify: [Modify::Messages].into(),
        limits: Limits { component_bytes_max: 64 << 20, ..Limits::default() },
        ..PluginSpec::new("one", folder, Arc::clone(&package.component))
    };
    let [compiled, plugin] = [(); 2].map(|()| sandbox.load(spec(), &model()).expect("it loads"));
    let trial = plugin.report().trial.as_ref().expect("it was tried");
    println!("{folder}: {} KB, {} KB of memory", package.component.len() / 1_000, trial.memory_bytes / 1_000);
    println!("{:<66} {:>10}", "load: compile it", format!("{:.1?}", compiled.report().compile_elapsed));
    println!("{:<66} {:>10}", "load: from the cache", format!("{:.1?}", plugin.report().compile_elapsed));
    report("instantiate, init and drop", 1, &measure(500, || assert!(probe::instantiate(&plugin).is_some())));
    let stages = Some(vec![(Stage::Prompt, 0)]);
    let plain =
        sandbox.load(PluginSpec { stages, ..PluginSpec::new("plain", "bundled", bundled::MISBEHAVING) }, &model());
    let plugins = vec![plain.expect("it loads"), plugin];
    let plugins = Plugins::new(&sandbox, plugins, Metrics::new(&[]).plugins).expect("they work together");
    let short = chat(2, 40);
    let prepare = || drop(black_box(probe(&plugins).prepare(short.clone()).expect("it accepts")));
    report("policies and a plain prompt, two short messages, fresh instance", 1, &measure(300, prepare));
    report("push", PUSHES, &pushes(&plugins));
}

fn counter() -> InstrumentSpec {
    InstrumentSpec {
        name: "counted".to_owned(),
        kind: InstrumentKind::Counter,
        labels: Vec::new(),
        series_max: 1,
        buckets: Vec::new(),
    }
}

/// Times of one call each.
fn measure(runs: usize, mut call: impl FnMut()) -> Vec<Duration> {
    for _ in 0..runs / 10 {
        call();
    }
    let timed = |_| {
        let started = Instant::now();
        call();
        started.elapsed()
    };
    (0..runs).map(timed).collect()
}

/// Times of [`PUSHES`] pushes each; instances and opening are not in them.
fn pushes(plugins: &Plugins) -> Vec<Duration> {
    let timed = |_| {
        let mut run = probe(plugins);
        run.prepare(chat(1, 16)).expect("it renders");
        run.push(piece(0), false).expect("it behaves");
        let started = Instant::now();
        for number in 1..=PUSHES {
            black_box(run.push(piece(number), false).expect("it behaves"));
        }
        started.elapsed()
    };
    (0..300).map(timed).skip(30).collect()
}

fn whole(plugins: &Plugins, request: &ChatRequest) {
    let mut run = probe(plugins);
    run.prepare(request.clone()).expect("it renders");
    for number in 1..=PUSHES {
        black_box(run.push(piece(number), number == PUSHES).expect("it behaves"));
    }
    run.finish(Finish::Stop, Usage::default()).expect("it behaves");
    black_box(run.end(Finish::Stop, Usage::default()));
}

/// Times of single pushes of one stream, from the side that waits for them.
async fn stream(plugins: &Plugins, pushes: usize, pace: Duration) -> Vec<Duration> {
    let mut run = plugins.begin(call());
    run.prepare(chat(1, 16)).await.expect("it renders");
    let mut times = Vec::with_capacity(pushes);
    for number in 0..pushes {
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        let started = Instant::now();
        black_box(run.push(piece(number), Vec::new(), false).await.expect("it behaves"));
        times.push(started.elapsed());
    }
    times
}

fn streams(runtime: &Runtime, plugins: &Arc<Plugins>) -> Vec<Duration> {
    runtime.block_on(async {
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let plugins = Arc::clone(plugins);
                tokio::spawn(async move {
                    // Streams have nothing to do with each other: their tokens do not come at the same moment.
                    tokio::time::sleep(PACE * u32::try_from(number).unwrap_or(0) / 64).await;
                    stream(&plugins, 150, PACE).await
                })
            })
            .collect();
        let mut times = Vec::new();
        for stream in streams {
            times.extend(stream.await.expect("it behaves"));
        }
        times
    })
}

fn report(what: &str, calls: usize, times: &[Duration]) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |part: f64| {
        let place = ((times.len() - 1) as f64 * part).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let time = times[place as usize];
        time.as_secs_f64() * 1e6 / calls as f64
    };
    println!("{what:<66} {:>7.2} µs {:>7.2} µs", at(0.5), at(0.99));
}

fn probe(plugins: &Plugins) -> Probe {
    Probe::begin(plugins, call()).expect("nobody else takes the room")
}

fn piece(number: usize) -> String {
    ["The", " answer", " is", " long", " and", " plain", ",", " word"][number % 8].to_owned()
}

fn call() -> Call {
    Call {
        request_id: RequestId::new("bench"),
        traceparent: None,
        model: "bytes".to_owned(),
        headers: Vec::new(),
        choice: 0,
    }
}

fn chat(messages: usize, bytes: usize) -> ChatRequest {
    let message = Message { role: Role::User, name: None, parts: vec![Part::Text("word ".repeat(bytes / 5))] };
    ChatRequest {
        operation: inference::Operation::Chat,
        model: "bytes".to_owned(),
        messages: vec![message; messages],
        tools: Vec::new(),
        tool_choice: inference::ToolChoice::Auto,
        parallel_tool_calls: true,
        sampling: Sampling::default(),
        max_tokens: None,
        stop: Vec::new(),
        streaming: true,
        stop_tokens: Vec::new(),
        ignore_end: false,
        logprobs: None,
        format: None,
        template_arguments: "{}".to_owned(),
    }
}

/// The template of a small chat model (ChatML, as SmolLM2 has it).
const CHAT_TEMPLATE: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
    {{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

fn model() -> ModelContext {
    let card = ModelCard {
        id: "bytes".to_owned(),
        revision: String::new(),
        architecture: "none".to_owned(),
        context_length: 4_096,
        context_length_trained: 4_096,
        chat_template: Some(CHAT_TEMPLATE.to_owned()),
        bos_text: "<|im_start|>".to_owned(),
        eos_text: "<|im_end|>".to_owned(),
        size_bytes: 0,
        created: 0,
    };
    ModelContext::new(card, Arc::new(Bytes))
}

/// One token per byte, and two control tokens.
struct Bytes;

impl Vocabulary for Bytes {
    fn size(&self) -> u32 {
        258
    }
    fn tokenize(&self, text: &str, _special: SpecialTokens) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.extend(u8::try_from(token.0));
    }
    fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
        let found = |spelled: &str, token| text.find(spelled).map(|start| (start..start + spelled.len(), Token(token)));
        [found("<|im_start|>", 256), found("<|im_end|>", 257)]
            .into_iter()
            .flatten()
            .min_by_key(|(place, _)| place.start)
    }
    fn prompt_start(&self) -> Option<Token> {
        None
    }
    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }
    fn ends_generation(&self, token: Token) -> bool {
        token.0 == 257
    }
}
