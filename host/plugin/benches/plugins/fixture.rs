//! What is measured on: requests, pieces of an answer, and a model that has a vocabulary and a template only.

use std::ops::Range;
use std::sync::Arc;

use inference::{
    Call, ChatRequest, Finish, Message, ModelCard, Part, RequestId, Role, Sampling, SpecialTokens, Stage, Token, Usage,
    Vocabulary,
};
use plugin::probe::Probe;
use plugin::{InstrumentKind, InstrumentSpec, KvGrant, LoadedPlugin, ModelContext, PluginSpec, Plugins, Sandbox};
use telemetry::Metrics;

/// Pieces of one answer, as a model of 64 tokens gives them.
pub(crate) const PUSHES: usize = 64;
/// Tokens of the vocabulary: Llama 3's. Masks are as long as it is.
pub(crate) const VOCABULARY: u32 = 128_256;

/// Loads a plugin.
pub(crate) fn load(sandbox: &Sandbox, spec: PluginSpec) -> LoadedPlugin {
    sandbox.load(spec, &model()).expect("it loads")
}

/// `misbehaving`, which behaves unless it is told otherwise, in these stages.
pub(crate) fn plain(name: &str, stages: &[Stage]) -> PluginSpec {
    PluginSpec {
        stages: Some(stages.iter().map(|&stage| (stage, 0)).collect()),
        kv: vec![KvGrant::new("store")],
        instruments: vec![counter()],
        token_control: true,
        ..PluginSpec::new(name, "bundled", bundled::MISBEHAVING)
    }
}

/// Plugins that work together.
pub(crate) fn together(sandbox: &Sandbox, plugins: Vec<LoadedPlugin>) -> Plugins {
    Plugins::new(sandbox, plugins, Metrics::new(&[]).plugins).expect("they work together")
}

/// A request whose caller is its worker.
pub(crate) fn probe(plugins: &Plugins) -> Probe {
    Probe::begin(plugins, call()).expect("nobody else takes the room")
}

/// A request whose answer is [`PUSHES`] pieces, from its beginning to its end.
pub(crate) fn whole(plugins: &Plugins, request: &ChatRequest) {
    let mut run = probe(plugins);
    run.prepare(request.clone()).expect("it renders");
    for number in 1..=PUSHES {
        std::hint::black_box(run.push(piece(number), number == PUSHES).expect("it behaves"));
    }
    run.finish(Finish::Stop, Usage::default()).expect("it behaves");
    std::hint::black_box(run.end(Finish::Stop, Usage::default()));
}

pub(crate) fn piece(number: usize) -> String {
    ["The", " answer", " is", " long", " and", " plain", ",", " word"][number % 8].to_owned()
}

pub(crate) fn call() -> Call {
    Call {
        request_id: RequestId::new("bench"),
        traceparent: None,
        model: "bytes".to_owned(),
        headers: Vec::new(),
        choice: 0,
    }
}

pub(crate) fn chat(messages: usize, bytes: usize) -> ChatRequest {
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

pub(crate) fn model() -> ModelContext {
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

fn counter() -> InstrumentSpec {
    InstrumentSpec {
        name: "counted".to_owned(),
        kind: InstrumentKind::Counter,
        labels: Vec::new(),
        series_max: 1,
        buckets: Vec::new(),
    }
}

/// One token per byte, two control tokens, and tokens that are there for their number.
struct Bytes;

impl Vocabulary for Bytes {
    fn size(&self) -> u32 {
        VOCABULARY
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
