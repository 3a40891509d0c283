//! Every limit of this room, with its unit and its reason. What an operator may change is a field of
//! [`ServiceConfig`](crate::ServiceConfig) or [`HttpConfig`](crate::HttpConfig) and starts from the value here.

use std::ops::RangeInclusive;
use std::time::Duration;

// ---- requests for work ----

/// Requests that hold a slot at once. R20: a local model serves one at a time unless the operator says more.
pub const CONCURRENCY_DEFAULT: usize = 1;
/// Requests that wait for a slot. A longer line than this only grows answers that nobody waits for any more.
pub const QUEUE_MAX_DEFAULT: usize = 64;
/// Tokens of the prompts of those that wait: two as long as the longest context that models commonly have. What a CPU reads of them
/// in the time that requests wait is far less; a GPU may do all.
pub const QUEUE_TOKENS_MAX_DEFAULT: u64 = 256 * 1024;
/// Bytes of a body for one token of its prompt, as of English text. What waits has not been tokenized yet.
pub const BYTES_PER_TOKEN: usize = 4;
/// Time that a request waits for a slot: half of the 60 s after which impatient clients and proxies give up.
pub const QUEUE_WAIT_MAX_DEFAULT: Duration = Duration::from_secs(30);
/// From a request's arrival to its end: what clients made for OpenAI's API wait for by default.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_mins(10);
/// Time before its deadline at which a request that still waits for a slot is sent away: by the line, which knows when another try
/// makes sense.
pub const TOLD_BEFORE: Duration = Duration::from_millis(5);
/// Bytes of prompt text up to which tokenizing stays on the async thread. At about 10 MB/s this is 3 ms, less than
/// a decode step; more would hold up other connections' events.
pub const TOKENIZE_INLINE_BYTES_MAX: usize = 32 * 1024;

/// `Retry-After` when all slots and the line are full: a short answer's time.
pub const RETRY_AFTER_BUSY: Duration = Duration::from_secs(2);
/// `Retry-After` while the model loads: mapping a warm file takes a second, a cold one tens.
pub const RETRY_AFTER_LOADING: Duration = Duration::from_secs(5);

/// The header that names who asks: what the Gateway API's inference extension tells requests apart by for fairness.
pub const CALLER_HEADER_DEFAULT: &str = "x-gateway-inference-fairness-id";

/// How often it is looked whether a model that nobody has asked for lately is still in use.
pub const UNLOAD_INTERVAL: Duration = Duration::from_secs(1);

// ---- the body of a request ----

/// Bytes of a request body. A 128k-token prompt is about half a megabyte; escapes and tool results may triple it.
pub const BODY_BYTES_MAX_DEFAULT: usize = 4 * 1024 * 1024;
/// Time for the whole body to arrive, however steadily it drips.
pub const BODY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Bytes of request bodies held at once, over all connections: what keeps 512 clients with 4 MiB each from costing
/// 2 GiB. A body counts from its first byte until its request has a slot and its prompt.
pub const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a body up to which it is parsed on the async threads: a millisecond or two at most. More would hold up other
/// connections' events.
pub const PARSE_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Larger bodies parsed at once: each takes memory that nobody has accounted for until it is done, and they compete with decoding
/// for the cores. The next one waits some tens of milliseconds.
pub const PARSERS_MAX: usize = 4;
/// Bytes of them that only small bodies get: some dozens of large ones that come slowly would otherwise shut everybody out for as
/// long as they may take.
pub const SMALL_BODIES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes up to which a body is a small one: a conversation of some ten thousand words.
pub const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;
/// Nesting of arrays and objects; a chat request needs five, JSON for a template some more.
pub const JSON_DEPTH_MAX: usize = 64;
/// Members of one object whose names this API knows: more than any has.
pub const MEMBERS_MAX: usize = 256;
/// Messages of a conversation.
pub const MESSAGES_MAX: usize = 1024;
/// Text parts of one message.
pub const PARTS_MAX: usize = 256;
/// Parts of all messages together: each costs about a hundred bytes beside its text, which may be none.
pub const CONVERSATION_PARTS_MAX: usize = 8 * 1024;
/// Earlier tool calls in one assistant message.
pub const TOOL_CALLS_MAX: usize = 128;
/// Bytes of an earlier call's `input` in a message request, which is checked as JSON: more than a model says in one answer.
pub const CALL_INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Functions in `tools`, as with OpenAI.
pub const TOOLS_MAX: usize = 128;
/// Bytes of one function's `parameters`; as large as a schema that is enforced may be (`grammar::limits`).
pub const TOOL_SCHEMA_BYTES_MAX: usize = 128 * 1024;
/// Bytes of all functions' `parameters` together: some 60,000 tokens, more than most contexts hold.
pub const TOOL_SCHEMAS_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a function's `description`.
pub const TOOL_DESCRIPTION_BYTES_MAX: usize = 16 * 1024;
/// Texts in `stop`. OpenAI allows 4; local agents use more, and the matcher scans them all at each piece.
pub const STOP_TEXTS_MAX: usize = 16;
/// Bytes of one text in `stop`: what the detokenizer may have to hold back.
pub const STOP_TEXT_BYTES_MAX: usize = 256;
/// Bytes of a short text: model, name, identifier, user.
pub const SHORT_TEXT_BYTES_MAX: usize = 512;
/// Bytes of `chat_template_kwargs`: switches for a template, not content.
pub const TEMPLATE_ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a grammar, a regular expression or a schema's text: as much as the largest of them may have (`grammar::limits`).
pub const FORMAT_TEXT_BYTES_MAX: usize = 128 * 1024;
/// Texts in `structured_outputs.choice`.
pub const CHOICES_MAX: usize = 1000;
/// `n`: answers to one request. They share the prompt and cost an answer each; more than a machine has slots take turns.
pub const N_MAX: u64 = 16;
/// Answers to all prompts of one `POST /v1/completions`. They are collected until the last is whole, and take turns in the
/// request's slots.
pub const COMPLETIONS_MAX: u32 = 128;
/// Pairs of `metadata`, as with OpenAI.
pub const METADATA_PAIRS_MAX: usize = 16;
/// Tokens in `stop_token_ids`, as many as texts in `stop`.
pub const STOP_TOKENS_MAX: usize = 16;
/// `temperature`, as with OpenAI.
pub const TEMPERATURE: RangeInclusive<f32> = 0.0..=2.0;
/// `top_p`, `min_p` and `typical_p`: parts of all there is.
pub const PROBABILITY: RangeInclusive<f32> = 0.0..=1.0;
/// `presence_penalty` and `frequency_penalty`, as with OpenAI.
pub const PENALTY: RangeInclusive<f32> = -2.0..=2.0;
/// `repeat_penalty`: logits are divided by it; 1 is none.
pub const REPEAT_PENALTY: RangeInclusive<f32> = 0.01..=2.0;
/// What `logit_bias` adds, as with OpenAI.
pub const LOGIT_BIAS: RangeInclusive<f32> = -100.0..=100.0;
/// `top_k`: beyond any vocabulary there is nothing to keep.
pub const TOP_K_MAX: u64 = 1_000_000;
/// `top_logprobs`, as with OpenAI. Each costs an entry in every event.
pub const TOP_LOGPROBS_MAX: u64 = 20;
/// Tokens in `logit_bias`: some words in all their spellings. Each is visited at each step.
pub const LOGIT_BIASES_MAX: usize = 1000;
/// `dry_multiplier`: logits are some tens apart, so this bans already.
pub const DRY_MULTIPLIER: RangeInclusive<f32> = 0.0..=100.0;
/// `dry_base`: the second token of a repetition would be banned.
pub const DRY_BASE: RangeInclusive<f32> = 1.0..=100.0;
/// `dry_allowed_length`, in tokens: beyond any context there is nothing to penalise.
pub const DRY_LENGTH_MAX: u64 = 1_000_000;
/// Texts in `dry_sequence_breakers`; four are usual. The vocabulary is searched for each.
pub const DRY_BREAKERS_MAX: usize = 16;
/// Bytes of one of them: what llama.cpp looks at.
pub const DRY_BREAKER_BYTES_MAX: usize = 40;
/// Tokens of a text that `/tokenize` tells: as many as the longest contexts hold. Each is a number and, where the client wants it,
/// a text, in memory and in JSON.
pub const TOKENS_SHOWN_MAX: usize = 256 * 1024;
/// Bytes of text that `/detokenize` tells: what a body may bring back.
pub const TEXT_SHOWN_BYTES_MAX: usize = BODY_BYTES_MAX_DEFAULT;

// ---- is it alive ----

/// Time without a step of the engine, while there is work, after which it counts as stalled. The slowest honest step is the first one
/// of a large model that comes from a disk: 40 GB at 200 MB/s are 200 s. A step of 256 prompt tokens at 1 token/s, slower than
/// anybody waits for, is 256 s. Being too late costs minutes of a host that hangs; being too early kills one that works.
pub const STALL_MAX_DEFAULT: Duration = Duration::from_mins(5);

// ---- requests to encode ----

/// Inputs of a request, as with OpenAI, and documents of one. What they become is held until it is sent: 2,048 vectors of
/// 1,024 numbers are 8 MiB, and 25 MiB as text.
pub const INPUTS_MAX: usize = 2048;
/// Bytes of a query: it is computed again with every document.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;

// ---- keys and certificates ----

/// API keys at once: one for each application of a large house, twice while they are changed. All are compared at each request,
/// some 50 ns each.
pub const KEYS_MAX: usize = 1024;
/// Bytes of a key: what nobody guesses. 16 characters of hexadecimal digits are 64 bits.
pub const KEY_BYTES_MIN: usize = 16;
/// Bytes of a key: longer than any that services hand out, and well within a head.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes of a key's name, which is kept for every caller.
pub const KEY_NAME_BYTES_MAX: usize = 64;
/// Bytes of the file of keys: as many of them as there may be, with comments.
pub const KEY_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a PEM file: a system's whole collection of authorities is some 200 KiB.
pub const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;

// ---- connections ----

/// Connections at once; each costs about 20 KiB when idle. The next one waits in the kernel's backlog.
pub const CONNECTIONS_MAX_DEFAULT: usize = 512;
/// Connections for probes and metrics at once: a kubelet's three probes and some scrapers, each of which keeps one.
pub const PROBE_CONNECTIONS_MAX: usize = 32;
/// Connections that wait in the kernel to be accepted over a Unix socket; the kernel may hold fewer (`net.core.somaxconn`).
pub const SOCKET_BACKLOG: i32 = 1024;
/// Time for a TLS handshake, two round trips and some milliseconds of computing: as long as for a head.
pub const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// What may be asked for at most: a pod's clients are not more, and each may hold [`memory_bytes_max`] of one.
pub const CONNECTIONS_MAX_MAX: u32 = 65_536;
/// Time for a request's head to arrive, from the connection's start or the head's first byte.
pub const HEAD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Time that a connection may stay open between two requests.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
/// Time without any progress after which a client that does not read loses its connection, and with it its slot.
pub const WRITE_STALL_MAX_DEFAULT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes that hyper buffers per connection and direction: a head, or a few hundred stream events. Its minimum is 8 KiB.
pub const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How often a connection's deadlines are looked at: a client that left is noticed within this.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Pause after the kernel refused to accept a connection (no file descriptors left), before trying again.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Bytes that clients can make this room hold, with this many connections: what hyper buffers in both directions, a
/// connection's tasks and state, and the bodies. What is parsed from a body takes up to twice its bytes, and some more for as long
/// as it is being parsed (`wire/forms.rs` measures both).
#[must_use]
pub const fn memory_bytes_max(connections_max: usize) -> usize {
    const STATE_BYTES: usize = 20 * 1024;
    const PARSING_BYTES: usize = 4 * BODY_BYTES_MAX_DEFAULT;
    let connections = connections_max.saturating_mul(2 * CONNECTION_BUFFER_BYTES_MAX + STATE_BYTES);
    connections.saturating_add(2 * BODIES_BYTES_MAX + PARSERS_MAX * PARSING_BYTES)
}

// ---- streams and shutdown ----

/// Silence after which a stream carries a comment: proxies cut idle responses after 30 to 60 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long an answer that broke off waits for its plugins to be told so: where their threads are all busy, the client has its
/// error all the same.
pub const BREAK_OFF_WAIT_MAX: Duration = Duration::from_secs(1);
/// Time that running requests get to finish once the process was told to stop: Kubernetes' default grace of 30 s,
/// less the time to close and exit.
pub const DRAIN_GRACE_DEFAULT: Duration = Duration::from_secs(25);
/// How often a drain looks whether requests still run.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
/// Time that connections get to carry their last bytes after the drain: what breaks off has told its plugins by then
/// ([`BREAK_OFF_WAIT_MAX`]), and its error is one of these bytes.
pub const CLOSE_GRACE: Duration = Duration::from_secs(2);
