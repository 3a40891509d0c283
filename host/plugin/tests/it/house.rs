//! A sandbox, a model of bytes and requests, for all tests of this suite.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use inference::{
    Call, ChatRequest, Delta, FaultKind, Finish, Message, ModelCard, Output, Part, Pipeline, PipelineError,
    PipelineRun, Prepared, RequestId, Role, Sampling, SpecialTokens, Stage, Token, Usage, Vocabulary,
};
use plugin::{
    InstrumentKind, InstrumentSpec, KvGrant, LoadError, LoadedPlugin, ModelContext, PluginSpec, Plugins, Sandbox,
    SandboxConfig,
};
use telemetry::{Format, Metrics};

/// The test guest, told to behave as `config` says.
pub(crate) fn guest(name: &str, config: &str) -> PluginSpec {
    PluginSpec {
        config_json: config.to_owned(),
        kv: vec![KvGrant { keys_max: 100, ..KvGrant::new("store") }],
        instruments: vec![
            instrument("counted", InstrumentKind::Counter),
            instrument("seen", InstrumentKind::Histogram),
        ],
        ..PluginSpec::new(name, "bundled", bundled::MISBEHAVING)
    }
}

/// With one label, `kind`, and room for three of its values.
pub(crate) fn instrument(name: &str, kind: InstrumentKind) -> InstrumentSpec {
    InstrumentSpec {
        name: name.to_owned(),
        kind,
        labels: vec!["kind".to_owned()],
        series_max: 3,
        buckets: vec![1.0, 10.0],
    }
}

/// The test guest for some of its stages only.
pub(crate) fn guest_for(stages: &[Stage], name: &str, config: &str) -> PluginSpec {
    let stages = stages.iter().map(|&stage| (stage, 0)).collect();
    PluginSpec { stages: Some(stages), ..guest(name, config) }
}

/// A plain renderer, so that other plugins need not render.
pub(crate) fn renderer() -> PluginSpec {
    guest_for(&[Stage::Prompt], "renderer", "{}")
}

/// One sandbox for all tests that do not care: compiled code is shared through its cache.
pub(crate) fn sandbox() -> &'static Sandbox {
    static CACHE: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
        let cache_dir = Some(CACHE.path().join("cwasm"));
        Sandbox::new(SandboxConfig { cache_dir, ..SandboxConfig::default() }).expect("a sandbox")
    });
    &SANDBOX
}

pub(crate) fn load(spec: PluginSpec) -> Result<LoadedPlugin, LoadError> {
    sandbox().load(spec, &model())
}

/// The log of this process, from the first call on.
pub(crate) fn logged() -> Log {
    static LOG: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).expect("the first subscriber");
        log
    });
    LOG.clone()
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panics in here").clone()).expect("logs are UTF-8")
    }

    /// The first line with these words.
    pub(crate) fn line(&self, words: &str) -> String {
        let text = self.text();
        text.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words:?} in {text}")).to_owned()
    }

    /// How many lines have these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics in here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Plugins and the metrics that they count in.
pub(crate) struct House {
    pub(crate) plugins: Plugins,
    metrics: Metrics,
}

impl House {
    pub(crate) fn of(specs: Vec<PluginSpec>) -> Self {
        Self::within(sandbox(), specs)
    }

    pub(crate) fn within(sandbox: &Sandbox, specs: Vec<PluginSpec>) -> Self {
        let loaded = specs.into_iter().map(|spec| sandbox.load(spec, &model()).expect("it loads")).collect();
        let metrics = Metrics::new(&[]);
        let plugins = Plugins::new(sandbox, loaded, metrics.plugins.clone()).expect("they work together");
        Self { plugins, metrics }
    }

    /// The test guest in all its stages.
    pub(crate) fn told(config: &str) -> Self {
        Self::of(vec![guest("guest", config)])
    }

    pub(crate) fn begin(&self) -> Box<dyn PipelineRun> {
        self.plugins.begin(call())
    }

    pub(crate) async fn prepare(&self) -> Result<Prepared, PipelineError> {
        self.begin().prepare(chat("Hello")).await
    }

    /// A whole request whose answer comes in `pieces`; the answer as the client has it.
    pub(crate) async fn answer(&self, pieces: &[&str]) -> Result<Answer, PipelineError> {
        self.answer_to(call(), pieces).await
    }

    /// The same for a client that says more of itself.
    pub(crate) async fn answer_to(&self, call: Call, pieces: &[&str]) -> Result<Answer, PipelineError> {
        let mut run = self.plugins.begin(call);
        run.prepare(chat("Hello")).await?;
        let mut answer = Answer::default();
        for (number, piece) in pieces.iter().enumerate() {
            let output = run.push((*piece).to_owned(), Vec::new(), number + 1 == pieces.len()).await?;
            let stop = output.stop;
            answer.take(output);
            if stop.is_some() {
                break;
            }
        }
        let finish = answer.stop.unwrap_or(Finish::Stop);
        answer.notes = run.finish(finish, Usage { completion_tokens: 7, ..Usage::default() }).await?;
        Ok(answer)
    }

    /// A sample's value, as it is written.
    pub(crate) fn sample(&self, name_and_labels: &str) -> Option<String> {
        let text = self.metrics.encode(Format::Text);
        text.lines().find_map(|line| Some(line.strip_prefix(name_and_labels)?.trim().to_owned()))
    }

    /// How often the metric lines of a name have all of `labels`.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.metrics.encode(Format::Text);
        let lines =
            text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits for a count: audits and the end of cancelled calls come after the answer.
    pub(crate) async fn wait_for(&self, name: &str, labels: &[&str], count: u64) {
        for _ in 0..2_000 {
            if self.count(name, labels) == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{name}{labels:?} is {} and not {count} after 10 s", self.count(name, labels));
    }
}

/// An answer as the client puts it together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    /// Name and arguments of each tool call.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) stop: Option<Finish>,
    pub(crate) notes: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn take(&mut self, output: Output) {
        for delta in output.deltas {
            match delta {
                Delta::Content(text) => self.content.push_str(&text),
                Delta::Reasoning(text) => self.reasoning.push_str(&text),
                Delta::ToolCallStart { index, name, .. } => {
                    assert_eq!(index as usize, self.calls.len(), "calls are numbered from 0 in order");
                    self.calls.push((name, String::new()));
                }
                Delta::ToolArguments { index, text } => self.calls[index as usize].1.push_str(&text),
                Delta::ToolCallEnd { index } => {
                    assert_eq!(index as usize + 1, self.calls.len(), "the call that is open");
                }
            }
        }
        self.stop = self.stop.or(output.stop);
    }
}

/// Plugin, stage and kind of a fault, for comparison.
pub(crate) fn fault(error: &PipelineError) -> (String, Stage, FaultKind) {
    match error {
        PipelineError::Fault { plugin, stage, kind, .. } => (plugin.clone(), *stage, *kind),
        other => panic!("{other:?} is no fault"),
    }
}

pub(crate) fn detail(error: &PipelineError) -> &str {
    match error {
        PipelineError::Fault { detail, .. } => detail,
        other => panic!("{other:?} is no fault"),
    }
}

pub(crate) fn call() -> Call {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Call {
        request_id: RequestId::new("req-1"),
        traceparent: None,
        model: "bytes".to_owned(),
        headers: vec![header("x-tenant", "acme"), header("authorization", "Bearer secret")],
        choice: 0,
    }
}

pub(crate) fn chat(text: &str) -> ChatRequest {
    let parts = vec![Part::Text(text.to_owned())];
    ChatRequest {
        operation: inference::Operation::Chat,
        model: "bytes".to_owned(),
        messages: vec![Message { role: Role::User, name: None, parts }],
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

pub(crate) fn model() -> ModelContext {
    model_with(None)
}

pub(crate) fn model_with(chat_template: Option<String>) -> ModelContext {
    let card = ModelCard {
        id: "bytes".to_owned(),
        revision: String::new(),
        architecture: "none".to_owned(),
        context_length: 4096,
        context_length_trained: 4096,
        chat_template,
        bos_text: String::new(),
        eos_text: "<|end|>".to_owned(),
        size_bytes: 0,
        created: 0,
    };
    ModelContext::new(card, Arc::new(Bytes))
}

/// One token per byte, and one control token.
struct Bytes;

const END: Token = Token(256);

impl Vocabulary for Bytes {
    fn size(&self) -> u32 {
        257
    }
    fn tokenize(&self, text: &str, _special: SpecialTokens) -> Vec<Token> {
        // As if it were a long one.
        let until = Instant::now() + Duration::from_millis(if text == "spin" { 200 } else { 0 });
        while Instant::now() < until {
            std::hint::black_box(text);
        }
        text.bytes().map(|byte| Token(byte.into())).collect()
    }
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.extend(u8::try_from(token.0));
    }
    fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
        text.find("<|end|>").map(|start| (start..start + "<|end|>".len(), END))
    }
    fn prompt_start(&self) -> Option<Token> {
        None
    }
    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }
    fn ends_generation(&self, token: Token) -> bool {
        token == END
    }
}
