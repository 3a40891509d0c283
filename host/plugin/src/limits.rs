//! Every limit of this crate, with unit and reason.
//!
//! [`Limits`] are per plugin, and the operator may override each. The constants are the sandbox's own.

use std::time::Duration;

/// What one plugin may use. The defaults suit a small Rust guest; raise single values for bigger ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of the component file. A component of 16 MiB compiles for some 20 CPU-seconds: a bigger one is a decision.
    pub component_bytes_max: usize,
    /// Linear memory of one instance. Rust guests live in 2 MiB; a chat template over a long conversation takes
    /// five times the conversation.
    pub memory_bytes_max: usize,
    /// Elements of all tables of one instance together; a table holds the functions that are called through pointers.
    pub table_elements_max: usize,
    /// Bytes that the host copies out of the guest in one call, arguments of imports and results of exports alike.
    /// As large as a request body is allowed to be, so that `replace` can return one.
    pub call_bytes_max: usize,
    /// Calls of the host in one request, once for each of its answers. A chat template makes a few per message. Of WASI (`wasi = "quiet"`) only the monotonic clock
    /// counts: runtimes print and ask for random numbers as they start. The time of all calls is the guest's CPU time, and log
    /// bytes, random bytes and open resources have limits of their own.
    pub host_calls_max: u32,
    /// Log text of one request; one line says that there would have been more.
    pub log_bytes_max: usize,
    /// Text of one channel that a filter may hold back or ask to have collected. What is held is neither sent nor
    /// forgotten, so it is latency for the client and memory for us.
    pub holdback_bytes_max: usize,
    /// Text that the stages after the model may emit in one answer: some 25 times the longest answer of a context of
    /// 32,768 tokens, so only a filter that multiplies text meets it.
    pub output_bytes_max: usize,
    /// CPU time of `lifecycle.init`.
    pub init_cpu_max: Duration,
    /// CPU time of `policy.inspect`.
    pub policy_cpu_max: Duration,
    /// CPU time of `prompt.render`, and of opening a controller of tokens (`controller.open`, and `masks`): a fresh instance parses
    /// its Jinja template first (0.15 ms measured), and a conversation that fills the context takes milliseconds.
    pub prompt_cpu_max: Duration,
    /// CPU time of one `push` of a parser or filter, and of opening it. The call itself costs 0.4 µs.
    pub push_cpu_max: Duration,
    /// CPU time of one `step` of a controller of tokens: an answer's next token waits for it where the model is faster. A mask of
    /// 128,256 tokens is filled and handed over in 2 µs; walking the vocabulary for one takes 1 to 2 ms.
    pub step_cpu_max: Duration,
    /// CPU time of `filter.finish` and `audit.completed`.
    pub finish_cpu_max: Duration,
    /// CPU time of the plugin in one request, all calls together, once for each of its answers, before the pushes are counted.
    pub request_cpu_max: Duration,
    /// What each push and step adds to `request_cpu_max`: answers may be long, but a filter that needs more than this for every
    /// token takes a tenth of a core from one stream of 100 tokens/s.
    pub request_cpu_per_push: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes_max: 16 << 20,
            memory_bytes_max: 32 << 20,
            table_elements_max: 20_000,
            call_bytes_max: 4 << 20,
            host_calls_max: 10_000,
            log_bytes_max: 64 << 10,
            holdback_bytes_max: 4 << 10,
            output_bytes_max: 4 << 20,
            init_cpu_max: Duration::from_millis(200),
            policy_cpu_max: Duration::from_millis(20),
            prompt_cpu_max: Duration::from_millis(20),
            push_cpu_max: Duration::from_millis(2),
            step_cpu_max: Duration::from_millis(2),
            finish_cpu_max: Duration::from_millis(5),
            request_cpu_max: Duration::from_millis(400),
            request_cpu_per_push: Duration::from_millis(1),
        }
    }
}

/// A limit that an operator may set and a manifest may ask for, by its name in both.
#[derive(Debug, Clone, Copy)]
pub struct LimitKey {
    name: &'static str,
    value: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

/// A limit's name, and how its field is counted.
macro_rules! key {
    ($name:literal, size $field:ident) => {
        key!($name, |limits| limits.$field as u64, |limits, value| limits.$field = size(value))
    };
    ($name:literal, count $field:ident) => {
        key!($name, |limits| limits.$field.into(), |limits, value| limits.$field =
            u32::try_from(value).unwrap_or(u32::MAX))
    };
    ($name:literal, time $field:ident) => {
        key!($name, |limits| milliseconds(limits.$field), |limits, value| limits.$field = Duration::from_millis(value))
    };
    ($name:literal, $value:expr, $set:expr) => {
        LimitKey { name: $name, value: $value, set: $set }
    };
}

impl LimitKey {
    /// All of them, in the order in which they are shown. Sizes are in bytes, times in milliseconds.
    pub const ALL: [Self; 14] = [
        key!("component_bytes", size component_bytes_max),
        key!("memory_bytes", size memory_bytes_max),
        key!("call_bytes", size call_bytes_max),
        key!("host_calls", count host_calls_max),
        key!("log_bytes", size log_bytes_max),
        key!("holdback_bytes", size holdback_bytes_max),
        key!("output_bytes", size output_bytes_max),
        key!("init_ms", time init_cpu_max),
        key!("policy_ms", time policy_cpu_max),
        key!("prompt_ms", time prompt_cpu_max),
        key!("push_ms", time push_cpu_max),
        key!("step_ms", time step_cpu_max),
        key!("finish_ms", time finish_cpu_max),
        key!("request_ms", time request_cpu_max),
    ];

    /// The limit of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name == name)
    }

    /// Its name in the configuration and in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.name
    }

    /// Changes it in `limits`.
    pub fn set(self, limits: &mut Limits, value: u64) {
        (self.set)(limits, value);
    }

    /// What it is in `limits`.
    #[must_use]
    pub fn of(self, limits: &Limits) -> u64 {
        (self.value)(limits)
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Linear memory that 32-bit WebAssembly can address, in bytes.
pub(crate) const WASM_MEMORY_BYTES_MAX: usize = 4 << 30;

/// Between two looks at a running guest's clock. Finer costs wake-ups, coarser lets a loop run longer than its budget.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Wall time of a call may be this many times its CPU budget, and [`WALL_SLACK`] more: the backstop for a guest that
/// waits instead of working, and for a machine so busy that the guest gets no CPU.
pub(crate) const WALL_FACTOR: u32 = 20;

/// See [`WALL_FACTOR`].
pub(crate) const WALL_SLACK: Duration = Duration::from_secs(1);

/// Native stack of guest code, in bytes. `chat-template` renders Jinja recursively and is the deepest bundled guest:
/// 1,000 nested operators, lists or blocks fit (tested). Rust guests keep most of their locals in linear memory, where
/// 1 MiB is theirs.
pub(crate) const WASM_STACK_BYTES_MAX: usize = 512 << 10;

/// Stack of a thread that runs guests, in bytes: guest code, and under it the host functions that it calls. Running
/// over the end of a thread's stack would abort the process, so it is four times what the guest may use.
pub(crate) const THREAD_STACK_BYTES: usize = 4 * WASM_STACK_BYTES_MAX;

/// Frames of a trap's backtrace that are kept: enough to find the function, little enough to log.
pub(crate) const BACKTRACE_FRAMES_MAX: usize = 24;

/// Largest linear memory that the pooling allocator has room for, in bytes, unless the operator says otherwise.
pub(crate) const POOL_MEMORY_BYTES_DEFAULT: usize = 128 << 20;

/// Bytes of an instance's memory that stay mapped in the pool for the next one: what a Rust guest touches.
pub(crate) const POOL_MEMORY_RESIDENT_BYTES: usize = 1 << 20;

/// Core modules that one component may consist of. A plain Rust guest has 4; one with WASI or from Python some 10.
pub(crate) const CORE_INSTANCES_PER_COMPONENT: u32 = 16;

/// Memories that one component may have. More than one comes from composed components.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 2;

/// Tables that one component may have; the shims that `wasm-component-ld` adds bring their own.
pub(crate) const TABLES_PER_COMPONENT: u32 = 8;

/// Instances beside those of requests: trials of plugins being loaded.
pub(crate) const TRIAL_INSTANCES: u32 = 4;

/// Live instances of all plugins and requests, unless the operator says otherwise: 32 requests with four plugins.
pub(crate) const INSTANCES_DEFAULT: u32 = 128;

/// Threads that run guests, unless the operator says otherwise: a quarter of the cores within these bounds. Two at
/// least, so that a guest in an endless loop has a thread to itself until its budget is spent.
pub(crate) const WORKERS_MIN: usize = 2;

/// See [`WORKERS_MIN`].
pub(crate) const WORKERS_MAX: usize = 4;

/// Jobs that wait for a worker. A request has one job at most (`Strand`), so this bounds the requests that wait.
pub(crate) const QUEUE_JOBS_MAX: usize = 1_024;

/// Jobs of one request that a thread does in a row while other requests wait for one: the text and the token of a few steps of
/// the model.
pub(crate) const STRAND_JOBS_MAX: usize = 8;

/// How long a request waits for room in the queue, or for instances, before it is told that we are overloaded.
pub(crate) const QUEUE_WAIT: Duration = Duration::from_secs(2);

/// What a line of a guest's log costs beside its text, in bytes: time, level and name, so that empty lines are not free.
pub(crate) const LOG_LINE_OVERHEAD_BYTES: usize = 64;

/// Bytes of one log line of a guest, fields included; the rest is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 4 << 10;

/// Bytes of a guest's text that a client may see: the message of a rejection or of `invalid`.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Bytes of a fault's detail for the operator's log: a message and a backtrace of [`BACKTRACE_FRAMES_MAX`] frames.
pub(crate) const DETAIL_BYTES_MAX: usize = 4 << 10;

/// Notes that one plugin may leave on one request.
pub(crate) const NOTES_MAX: usize = 16;

/// Bytes of a note's name, and of its value.
pub(crate) const NOTE_BYTES_MAX: usize = 256;

/// Tool calls in one answer: as many as a request may offer tools. Models make a handful.
pub(crate) const TOOL_CALLS_MAX: u32 = 128;

/// Pieces that a parser may make of one push of the host's, neighbours of one channel joined. Each is a call of every filter, 0.4 µs
/// at least, so they are half a millisecond of a worker with one. A push of the model's is a few tokens; a whole answer at once has
/// seven for each of [`TOOL_CALLS_MAX`] calls.
pub(crate) const ITEMS_PER_PUSH_MAX: usize = 1_024;

/// Stop texts that a plugin may ask for, beside the request's own.
pub(crate) const STOP_TEXTS_MAX: usize = 16;

/// Bytes of one stop text.
pub(crate) const STOP_TEXT_BYTES_MAX: usize = 256;

/// Control tokens that a prompt may want shown in the answer: a format has some six.
pub(crate) const MARKS_MAX: usize = 32;

/// Bytes of one of them.
pub(crate) const MARK_BYTES_MAX: usize = 128;

/// Masks that a controller of tokens may give at once: with a vocabulary of 262,144 tokens they are 2 MiB, which `call_bytes` lets
/// through and the request keeps.
pub(crate) const MASKS_MAX: usize = 64;

/// Tokens that one step may name by number. More of them are longer than a mask of a vocabulary of 524,288.
pub(crate) const TOKEN_IDS_MAX: usize = 16_384;

/// Tokens that one step may force. They are computed beside other prompts, and the next step may force more.
pub(crate) const FORCED_TOKENS_MAX: usize = 1_024;

/// What a step may add to a logit, and take away: what a request's own `logit_bias` may.
pub(crate) const BIAS_MAX: f32 = 100.0;

/// Tokens in a replaced request's `stop_token_ids`. This and the following are what a client may ask for at most.
pub(crate) const STOP_TOKENS_MAX: usize = 16;

/// Tokens in `logit_bias`.
pub(crate) const LOGIT_BIASES_MAX: usize = 1000;

/// `top_logprobs`.
pub(crate) const TOP_LOGPROBS_MAX: u32 = 20;

/// `dry_multiplier`.
pub(crate) const DRY_MULTIPLIER_MAX: f32 = 100.0;

/// `dry_base`.
pub(crate) const DRY_BASE_MAX: f32 = 100.0;

/// `dry_allowed_length`, in tokens.
pub(crate) const DRY_LENGTH_MAX: u32 = 1_000_000;

/// Texts in `dry_sequence_breakers`.
pub(crate) const DRY_BREAKERS_MAX: usize = 16;

/// Bytes of one of them.
pub(crate) const DRY_BREAKER_BYTES_MAX: usize = 40;

/// Bytes of a plugin's name in the configuration; it becomes a metric label.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// Entries that have ended and are forgotten in one call of `kv`, at most. A call adds one at most, so none pile up; all at
/// once would hold the store's lock for as long as it takes.
pub(crate) const KV_EXPIRED_PER_CALL: usize = 64;

/// Instruments that one plugin may have.
pub(crate) const INSTRUMENTS_MAX: usize = 32;

/// Stores that one plugin may have.
pub(crate) const STORES_MAX: usize = 16;

/// Compiled components that the cache may hold, in bytes; those that were not used for longest go first. A small Rust guest has a
/// megabyte, one with Python in it 40, and `plugin dev` adds one with every build.
pub(crate) const CACHE_BYTES_MAX: u64 = 512 << 20;

/// How old a file of the cache may be that is being written: that takes a second at most, so an older one is of somebody who was
/// killed.
pub(crate) const UNFINISHED_AGE_MAX: Duration = Duration::from_mins(10);

/// Bytes that one call of `wasi:random` gives: made one by one, outside the guest's memory. Runtimes ask for 32 to seed.
pub(crate) const WASI_RANDOM_BYTES_MAX: u64 = 64 << 10;

/// WASI resources (streams, pollables) that one `quiet` instance may have open.
pub(crate) const WASI_RESOURCES_MAX: usize = 256;

/// Bytes of a `plugin.toml`: a page or two, with a schema in it perhaps.
pub(crate) const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// Bytes of one text in a manifest: it is shown in a line.
pub(crate) const MANIFEST_TEXT_BYTES_MAX: usize = 500;

/// Authors of a plugin.
pub(crate) const MANIFEST_LIST_MAX: usize = 64;

/// Things of one kind that a manifest may ask for: an operator reads and grants each.
pub(crate) const ASKS_MAX: usize = 64;

/// Bytes of a JSON Schema in a file of its own.
pub(crate) const CONFIG_SCHEMA_BYTES_MAX: usize = 256 << 10;

/// Places of a JSON Schema with its references followed, so that judging takes milliseconds. Large ones have hundreds.
pub(crate) const CONFIG_SCHEMA_PLACES_MAX: u64 = 10_000;

/// Levels of a JSON Schema with its references followed: each needs stack, when it is read and when it judges. Large ones
/// have a dozen.
pub(crate) const CONFIG_SCHEMA_DEPTH_MAX: u32 = 100;

/// Patterns of a JSON Schema: large ones have a dozen. Each is compiled, and kept as long as the plugin.
pub(crate) const CONFIG_PATTERNS_MAX: usize = 64;

/// Bytes of all of them as they are written.
pub(crate) const CONFIG_PATTERNS_BYTES_MAX: usize = 16 << 10;

/// Bytes of one of them, compiled. A repeated class of ASCII signs takes some hundred for each, a letter of any script 40 KiB.
pub(crate) const CONFIG_PATTERN_COMPILED_BYTES_MAX: usize = 256 << 10;

/// Bytes of what one of them remembers of the texts it has seen.
pub(crate) const CONFIG_PATTERN_CACHE_BYTES: usize = 64 << 10;

/// Places of a JSON Schema times values of a configuration: what judging may come to in steps of some 20 ns. Both large ones
/// together, with a thousand each, are a hundredth.
pub(crate) const CONFIG_STEPS_MAX: u64 = 100_000_000;

/// The same where everything that is wrong is told, and not the first thing alone: each step may be an error of some 300 bytes.
pub(crate) const CONFIG_STEPS_TOLD_MAX: u64 = 200_000;

/// Objections to one configuration that are told at once.
pub(crate) const CONFIG_ERRORS_MAX: usize = 8;

/// Bytes of the last fault's text that is kept for whoever asks: a message and the first frames. All of it was logged.
pub(crate) const FAULT_TEXT_BYTES_MAX: usize = 1 << 10;
