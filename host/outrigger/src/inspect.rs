//! `outrigger inspect`: what a model's file says of itself, and the memory that it needs.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use model::gguf;
use model::memory::{self, Budget, NotEnough};
use model::{Basis, Facts, Footprint, ModelReference, ReferenceError, Tokenizer, Workload};
use serde_json::{Value, json};
use store::Presence;

use crate::Failure;
use crate::cli::{Inspect, StoreArguments};
use crate::console::{print, printable};
use crate::models::{begin, existing};
use crate::placement;
use crate::progress::size;

pub(crate) fn inspect(arguments: Inspect) -> Result<(), Failure> {
    let Inspect { model, context_length, max_concurrency, json, count, store } = arguments;
    let Found { path, tokenizer } = locate(&model, store)?;
    if let Some(text) = count {
        let tokenizer = tokenizer.with_context(|| format!("{model} has no tokenizer.json to count tokens with"))?;
        let tokenizer = Tokenizer::open(&tokenizer).context("cannot count tokens")?;
        let tokens = tokenizer.count(&read_text(&text)?).context("cannot count tokens")?;
        return print(std::iter::once(tokens.to_string()));
    }
    let opened = gguf::Model::open(&path).with_context(|| format!("cannot inspect {}", path.display()))?;
    let context_length = placement::context_length(context_length, &opened.header).map_err(Failure::usage)?;
    let workload = Workload::new(context_length, max_concurrency);
    let budgets = memory::available();
    let report = Report {
        facts: Facts::of(&opened),
        footprint: Footprint::of(&opened.header, &workload),
        margin_bytes: memory::margin_bytes(&Footprint::of(&opened.header, &workload)),
        refusal: memory::check(&opened.header, &workload, &budgets).err(),
        workload,
        budgets,
        shards: opened.shards,
    };
    if json { print(std::iter::once(report.json().to_string())) } else { print(report.lines().into_iter()) }
}

struct Found {
    path: PathBuf,
    tokenizer: Option<PathBuf>,
}

/// The first file of what was named: a downloaded model, or a path with or without `file:`.
fn locate(given: &str, arguments: StoreArguments) -> Result<Found, Failure> {
    let settings = begin(arguments)?;
    let file = |path: PathBuf| Found {
        tokenizer: Some(path.with_file_name("tokenizer.json")).filter(|it| it.is_file()),
        path,
    };
    let path = PathBuf::from(given);
    if path.is_file() {
        return Ok(file(path));
    }
    let reference = match ModelReference::parse(given) {
        Ok(ModelReference::Hub(reference)) => reference,
        Ok(ModelReference::File(path)) => return Ok(file(path)),
        // What is wrong with it is said by whoever opens it.
        Err(ReferenceError::Path { .. }) => return Ok(file(path)),
        Err(error) => return Err(Failure::usage(error.into())),
    };
    let Some(store) = existing(&settings)? else {
        let why = format!("there is no folder {}", settings.models_dir()?.display());
        return Err(missing(&reference, &why).into());
    };
    let found = store.find(&reference).with_context(|| format!("cannot look for {reference}"))?;
    Ok(match found {
        Presence::Complete(local) => Found {
            path: local.weights.first().cloned().context("the model has no weights")?,
            tokenizer: local.tokenizer.clone(),
        },
        Presence::Unverified { .. } => return Err(missing(&reference, "it was not verified yet").into()),
        Presence::Missing { why } => return Err(missing(&reference, &why).into()),
    })
}

fn missing(reference: &model::HubReference, why: &str) -> anyhow::Error {
    anyhow::anyhow!("cannot inspect {reference}: {why}; fetch it with: outrigger pull {reference}")
}

/// Bytes of a text to count: some millions of tokens, more than any context.
const TEXT_BYTES_MAX: u64 = 32 << 20;

fn read_text(path: &Path) -> anyhow::Result<String> {
    let attempt = || format!("cannot read {}", path.display());
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(attempt)?)
    };
    let mut text = String::new();
    source.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).with_context(attempt)?;
    anyhow::ensure!(text.len() as u64 <= TEXT_BYTES_MAX, "{} is longer than {}", path.display(), size(TEXT_BYTES_MAX));
    Ok(text)
}

/// Characters of a name or a licence in the report.
const TEXT_CHARS_SHOWN_MAX: usize = 200;

struct Report {
    facts: Facts,
    shards: Vec<PathBuf>,
    workload: Workload,
    footprint: Footprint,
    margin_bytes: u64,
    budgets: Vec<Budget>,
    refusal: Option<Box<NotEnough>>,
}

impl Report {
    fn lines(&self) -> Vec<String> {
        let Self { facts, footprint, workload, .. } = self;
        let mut lines = Vec::new();
        let mut row = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                lines.push(format!("{name:<16}{}", printable(&value)));
            }
        };
        // As much as one reads of what a file may spread over megabytes.
        let text = |text: &Option<String>| text.as_ref().map(|text| text.chars().take(TEXT_CHARS_SHOWN_MAX).collect());
        let number = |number: Option<u64>, what: &str| number.map(|number| format!("{number}{what}"));
        row("file", self.shards.first().map(|path| path.display().to_string()));
        let files = if facts.shards == 1 { "file" } else { "files" };
        row("size", Some(format!("{} in {} {files}, {} tensors", size(facts.file_bytes), facts.shards, facts.tensors)));
        row("architecture", text(&facts.architecture));
        row("name", text(&facts.name));
        row("license", text(&facts.license));
        row("parameters", Some(parameters(facts.parameters)));
        row("quantisation", Some(self.quantisation()));
        row("context length", number(facts.context_length, " tokens, as trained"));
        row("layers", number(facts.layers, ""));
        row("width", number(facts.embedding_length, ""));
        row("heads", facts.heads.zip(facts.heads_kv).map(|(heads, kv)| format!("{heads}, {kv} for keys and values")));
        row("experts", facts.experts.map(|(all, used)| format!("{all}, {used} per token")));
        row("vocabulary", number(facts.vocabulary_size, " tokens"));
        row(
            "tokenizer",
            facts.tokenizer.as_ref().map(|kind| {
                [Some(kind), facts.pre_tokenizer.as_ref()].into_iter().flatten().cloned().collect::<Vec<_>>().join(", ")
            }),
        );
        let template = facts.template.as_ref();
        row(
            "chat template",
            Some(template.map_or("none".to_owned(), |it| format!("sha256 {}, {} bytes", it.sha256, it.bytes))),
        );

        let Workload { context_length, sequences, .. } = workload;
        lines.push(String::new());
        lines.push(format!("memory for {sequences} x {context_length} tokens"));
        let mut row = |name: &str, bytes: u64, note: &str| lines.push(format!("  {name:<14}{:>10}{note}", size(bytes)));
        let estimate = match footprint.basis {
            Basis::Stated => String::new(),
            Basis::Estimated { because } => format!("  an estimate: {because}"),
        };
        row("weights", footprint.weights_bytes, "");
        row("KV cache", footprint.kv_bytes, &estimate);
        row("compute", footprint.compute_bytes, "");
        row("process", footprint.process_bytes, "");
        row("together", footprint.total_bytes(), "");
        row("with margin", footprint.total_bytes().saturating_add(self.margin_bytes), "");
        for budget in &self.budgets {
            row("there are", budget.have_bytes, &format!("  of {}", budget.memory));
        }
        lines.push(match &self.refusal {
            None => "it fits".to_owned(),
            Some(refusal) => format!("it does not fit: {}", refusal.ways_out().join(", or ")),
        });
        lines
    }

    /// `Q4_K_M: Q4_K 71 %, Q6_K 28 %, F32 1 %`.
    fn quantisation(&self) -> String {
        let shares = self.facts.types.iter().map(|share| {
            let percent = share.bytes.saturating_mul(100) / self.facts.tensor_bytes.max(1);
            format!("{} {percent} %", share.kind.name())
        });
        let shares = shares.collect::<Vec<_>>().join(", ");
        self.facts.file_type.map_or_else(|| shares.clone(), |name| format!("{name}: {shares}"))
    }

    fn json(&self) -> Value {
        let Self { facts, footprint, workload, .. } = self;
        let (basis, because) = match footprint.basis {
            Basis::Stated => ("stated", None),
            Basis::Estimated { because } => ("estimated", Some(because)),
        };
        json!({
            "files": self.shards.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "file_bytes": facts.file_bytes,
            "tensor_bytes": facts.tensor_bytes,
            "tensors": facts.tensors,
            "architecture": facts.architecture,
            "name": facts.name,
            "license": facts.license,
            "parameters": facts.parameters,
            "file_type": facts.file_type,
            "types": facts.types.iter().map(|share| json!({
                "type": share.kind.name(), "tensors": share.tensors, "values": share.values, "bytes": share.bytes,
            })).collect::<Vec<_>>(),
            "context_length_trained": facts.context_length,
            "layers": facts.layers,
            "embedding_length": facts.embedding_length,
            "heads": facts.heads,
            "heads_kv": facts.heads_kv,
            "experts": facts.experts.map(|(all, _)| all),
            "experts_used": facts.experts.map(|(_, used)| used),
            "vocabulary_size": facts.vocabulary_size,
            "tokenizer": facts.tokenizer,
            "pre_tokenizer": facts.pre_tokenizer,
            "chat_template": facts.template.as_ref().map(|it| json!({"sha256": it.sha256, "bytes": it.bytes})),
            "memory": {
                "context_length": workload.context_length,
                "max_concurrency": workload.sequences,
                "weights_bytes": footprint.weights_bytes,
                "kv_bytes": footprint.kv_bytes,
                "compute_bytes": footprint.compute_bytes,
                "process_bytes": footprint.process_bytes,
                "margin_bytes": self.margin_bytes,
                "total_bytes": footprint.total_bytes(),
                "basis": basis,
                "because": because,
                "available": self.budgets.iter().map(|budget| json!({
                    "memory": budget.memory.to_string(), "bytes": budget.have_bytes,
                })).collect::<Vec<_>>(),
                "fits": self.refusal.is_none(),
                "ways_out": self.refusal.as_ref().map(|refusal| refusal.ways_out()).unwrap_or_default(),
            },
        })
    }
}

/// `134.5 million`.
fn parameters(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} million", count as f64 / 1e6),
        _ => format!("{:.2} billion", count as f64 / 1e9),
    }
}
