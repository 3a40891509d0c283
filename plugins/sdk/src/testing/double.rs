//! What the host's functions do in native tests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::kv;
use crate::log::Level;
use crate::model::{Info, Span, TokenTable};

/// The host's double: its fields are what plugins see, and what they left behind.
#[derive(Debug, Clone)]
pub struct Double {
    /// The model: `test`, with a context of 4,096 tokens.
    pub model: Info,
    /// Its chat template; none.
    pub chat_template: Option<String>,
    /// Texts that are control tokens; none.
    pub control_tokens: Vec<String>,
    /// How texts are tokenized: a token per byte.
    pub tokenize: fn(&str) -> Vec<u32>,
    /// What the clock says, in milliseconds; 0.
    pub now_ms: u64,
    /// What the calendar says, in seconds since 1970; 0.
    pub unix_seconds: u64,
    /// What was logged.
    pub log: Vec<Line>,
    /// The stores that are granted; none. Times to live are counted by `now_ms`.
    pub stores: BTreeMap<String, Store>,
    /// What was counted and observed, in order.
    pub metrics: Vec<Observation>,
}

/// A store: keys, and what they hold until when.
pub type Store = BTreeMap<String, Entry>;

/// What a key of a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value; of a number eight bytes, the least significant first.
    pub value: Vec<u8>,
    /// When it is gone, by `now_ms`.
    pub ends_at_ms: Option<u64>,
}

/// A value that a plugin measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The instrument.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

impl Default for Double {
    fn default() -> Self {
        Self {
            model: Info {
                id: "test".to_owned(),
                revision: String::new(),
                architecture: "none".to_owned(),
                context_length: 4096,
                vocab_size: 256,
                bos_text: String::new(),
                eos_text: String::new(),
            },
            chat_template: None,
            control_tokens: Vec::new(),
            tokenize: |text| text.bytes().map(u32::from).collect(),
            now_ms: 0,
            unix_seconds: 0,
            log: Vec::new(),
            stores: BTreeMap::new(),
            metrics: Vec::new(),
        }
    }
}

thread_local! {
    static DOUBLE: RefCell<Double> = RefCell::new(Double::default());
}

/// Looks at this thread's double, or changes it.
pub fn with_host<T>(work: impl FnOnce(&mut Double) -> T) -> T {
    DOUBLE.with_borrow_mut(work)
}

pub(crate) fn now() -> u64 {
    with_host(|host| host.now_ms)
}

pub(crate) fn unix_seconds() -> u64 {
    with_host(|host| host.unix_seconds)
}

pub(crate) fn enabled(_level: Level) -> bool {
    true
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    with_host(|host| host.log.push(Line { level, message: message.to_owned(), fields: fields.to_vec() }));
}

pub(crate) fn describe() -> Info {
    with_host(|host| host.model.clone())
}

pub(crate) fn chat_template() -> Option<String> {
    with_host(|host| host.chat_template.clone())
}

pub(crate) fn tokenize(text: &str, _special: bool) -> Vec<u32> {
    with_host(|host| host.tokenize)(text)
}

pub(crate) fn count_tokens(text: &str) -> u32 {
    u32::try_from(tokenize(text, false).len()).unwrap_or(u32::MAX)
}

pub(crate) fn control_tokens(text: &str) -> Vec<Span> {
    let window = with_host(|host| crate::MatchWindow::new(host.control_tokens.clone()));
    let mut spans = Vec::new();
    let mut from = 0;
    while let crate::Found::Match { place, .. } = window.find(&text[from..], true) {
        let offset = |at: usize| u32::try_from(from + at).unwrap_or(u32::MAX);
        spans.push(Span { start: offset(place.start), end: offset(place.end) });
        from += place.end;
    }
    spans
}

/// A token per byte.
pub(crate) fn vocabulary() -> TokenTable {
    TokenTable { offsets: (0..=256).collect(), bytes: (0..=255).collect() }
}

/// Does `work` with a granted store from which everything that has ended is gone.
fn with_store<T>(name: &str, work: impl FnOnce(&mut Store, u64) -> Result<T, kv::Error>) -> Result<T, kv::Error> {
    with_host(|host| {
        let now = host.now_ms;
        let store = host.stores.get_mut(name).ok_or(kv::Error::NoSuchStore)?;
        store.retain(|_, entry| entry.ends_at_ms.is_none_or(|end| end > now));
        work(store, now)
    })
}

pub(crate) fn get(store: &str, key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    with_store(store, |store, _| Ok(store.get(key).map(|entry| entry.value.clone())))
}

pub(crate) fn set(store: &str, key: &str, value: &[u8], ttl_ms: Option<u32>) -> Result<(), kv::Error> {
    with_store(store, |store, now| {
        let ends_at_ms = ttl_ms.map(|ttl| now + u64::from(ttl));
        store.insert(key.to_owned(), Entry { value: value.to_vec(), ends_at_ms });
        Ok(())
    })
}

pub(crate) fn delete(store: &str, key: &str) -> Result<(), kv::Error> {
    with_store(store, |store, _| {
        store.remove(key);
        Ok(())
    })
}

pub(crate) fn add(store: &str, key: &str, delta: i64, ttl_ms: Option<u32>) -> Result<i64, kv::Error> {
    with_store(store, |store, now| {
        let ends_at_ms = ttl_ms.map(|ttl| now + u64::from(ttl));
        let entry = store.entry(key.to_owned()).or_insert_with(|| Entry { value: vec![0; 8], ends_at_ms });
        let old: [u8; 8] = entry.value.as_slice().try_into().map_err(|_| kv::Error::Invalid)?;
        let new = i64::from_le_bytes(old).saturating_add(delta);
        entry.value = new.to_le_bytes().to_vec();
        Ok(new)
    })
}

pub(crate) fn count(name: &str, delta: f64, labels: &[(String, String)]) {
    observe(name, delta, labels);
}

pub(crate) fn observe(name: &str, value: f64, labels: &[(String, String)]) {
    with_host(|host| host.metrics.push(Observation { name: name.to_owned(), value, labels: labels.to_vec() }));
}
