//! One pass through the plugins and into the engine: what each of a request's answers begins with.

use std::sync::Arc;

use inference::{
    Call, ChatRequest, Generation, GenerationRequest, Mark, Operation, PipelineRun, Prepared, Prompt, Segment,
    SubmitError, Token, Usage, Vocabulary,
};

use super::grammar::Grammars;
use super::off_thread::{Hold, off_thread};
use super::raw::Raw;
use super::record::Tally;
use super::{Asked, ChatError, Serving};
use crate::limits;

/// What is asked, and of whom. Every answer is a pass of its own, so that each sees the plugins as if it were alone.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) serving: Serving,
    pub(super) grammars: Arc<Grammars>,
    pub(super) max_tokens_default: Option<u32>,
    pub(super) asked: Asked,
    pub(super) call: Call,
}

/// A request that the plugins let through, with its prompt.
pub(super) struct Ready {
    pub(super) run: Box<dyn PipelineRun>,
    pub(super) request: ChatRequest,
    pub(super) prompt: Prompt,
    pub(super) tokens: Vec<Token>,
    wants_tokens: bool,
}

/// An answer that has begun.
pub(super) struct Begun {
    pub(super) generation: Generation,
    pub(super) run: Box<dyn PipelineRun>,
    pub(super) prompt_tokens: u32,
    /// The stop texts of the client's.
    pub(super) stop: Vec<String>,
    /// Who gets to see the tokens and how likely they were.
    pub(super) shown_to: TokensShownTo,
}

/// Who gets to see the tokens and how likely they were.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokensShownTo {
    pub(super) client: bool,
    pub(super) filters: bool,
}

impl Pass {
    /// The model that answers.
    pub(super) fn model(&self) -> &str {
        &self.serving.engine.card().id
    }

    /// Begins the answer number `index`. Whoever begins the last one gives the request away.
    pub(super) async fn begin(this: Arc<Self>, index: u32, hold: &Hold, tally: &Tally) -> Result<Begun, ChatError> {
        let (serving, grammars) = (this.serving.clone(), Arc::clone(&this.grammars));
        let (id, max_tokens_default) = (this.call.request_id.clone(), this.max_tokens_default);
        let Ready { mut run, mut request, prompt, tokens, wants_tokens } =
            Self::prepare(this, index, hold, tally).await?;
        let (card, vocabulary) = (serving.engine.card(), serving.engine.vocabulary());
        let prompt_tokens = count(&tokens);
        let room = card.context_length.saturating_sub(prompt_tokens);
        if room == 0 {
            return Err(SubmitError::PromptTooLong { prompt_tokens, context_length: card.context_length }.into());
        }

        let shown_to = TokensShownTo { client: request.logprobs.is_some(), filters: wants_tokens };
        let grammar = grammars.compile(vocabulary, &mut request, prompt.format, hold).await?;
        let control = run.control(&tokens).await?;
        let stop = request.stop.clone();
        let generation = serving.engine.submit(GenerationRequest {
            id,
            prompt: tokens,
            sampling: request.sampling,
            // More than fits is no error: the answer then ends with `length`, as it would have anyway.
            max_tokens: request.max_tokens.or(max_tokens_default).unwrap_or(room).clamp(1, room),
            stop: request.stop.into_iter().chain(prompt.stop).collect(),
            stop_tokens: request.stop_tokens,
            marks: marks(prompt.marks, &**vocabulary),
            grammar,
            control,
            logprobs: request.logprobs.or(wants_tokens.then_some(0)),
            ignore_end: request.ignore_end,
        })?;
        run.used(Usage { prompt_tokens, ..Usage::default() });
        Ok(Begun { generation, run, prompt_tokens, stop, shown_to })
    }

    /// Takes the answer number `index` through the plugins as far as the tokens of its prompt.
    pub(super) async fn prepare(this: Arc<Self>, index: u32, hold: &Hold, tally: &Tally) -> Result<Ready, ChatError> {
        let Self { serving, asked, call, .. } = Arc::unwrap_or_clone(this);
        let Asked { mut request, prompts, choices } = asked;
        let (card, vocabulary) = (serving.engine.card(), serving.engine.vocabulary());
        let place = (index / choices) as usize;
        let raw = prompts.get(place).map(|input| {
            let member = if prompts.len() == 1 { "prompt".to_owned() } else { format!("prompt[{place}]") };
            Raw::new(input, &member, &**vocabulary)
        });
        let raw = raw.transpose()?;
        if let Some(raw) = &raw {
            (request.operation, request.messages) = (Operation::Completion, raw.messages());
        }
        // The same seed would give the same answer again.
        request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(index.into()));

        let mut run = serving.pipeline.begin(Call { model: card.id.clone(), choice: index, ..call });
        let Prepared { request, mut prompt, wants_tokens } = run.prepare(request).await?;
        // Here, where the policies have had their say: they may take such a wish away.
        check_tokens(&request, vocabulary.size())?;
        if request.logprobs.is_some()
            && let Some((plugin, stage)) = serving.pipeline.changes_text()
        {
            return Err(ChatError::LogprobsWithheld { plugin: plugin.to_owned(), stage });
        }
        if let Some(raw) = raw {
            raw.settle(&mut prompt);
        }
        let (tokens, prompt) = tokenize(prompt, Arc::clone(vocabulary), hold).await?;
        // All answers to a prompt share it.
        if index % choices == 0 {
            tally.prompt(count(&tokens));
        }
        Ok(Ready { run, request, prompt, tokens, wants_tokens })
    }
}

fn count(tokens: &[Token]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}

/// Tokens that a request names have to be tokens of this model.
fn check_tokens(request: &ChatRequest, vocabulary_size: u32) -> Result<(), ChatError> {
    let is_unknown = |token: &Token| token.0 >= vocabulary_size;
    let bias = request.sampling.logit_bias.iter().map(|&(token, _)| token).find(is_unknown);
    let stop = request.stop_tokens.iter().copied().position(|token| is_unknown(&token));
    let member = match (bias, stop) {
        (Some(token), _) => Some((format!("logit_bias.{}", token.0), token)),
        (None, Some(place)) => Some((format!("stop_token_ids[{place}]"), request.stop_tokens[place])),
        (None, None) => None,
    };
    match member {
        Some((member, token)) => Err(ChatError::UnknownToken { member, token: token.0, vocabulary_size }),
        None => Ok(()),
    }
}

/// The control tokens among what the prompt's plugin wants to be shown.
fn marks(texts: Vec<String>, vocabulary: &dyn Vocabulary) -> Vec<Mark> {
    let mark = |text: String| match vocabulary.find_control_token(&text) {
        Some((place, token)) if place == (0..text.len()) => Some(Mark { token, text }),
        _ => None,
    };
    texts.into_iter().filter_map(mark).collect()
}

/// The prompt's tokens. A long prompt is tokenized off the async threads, where nobody's stream waits for it.
pub(super) async fn tokenize(
    prompt: Prompt,
    vocabulary: Arc<dyn Vocabulary>,
    hold: &Hold,
) -> Result<(Vec<Token>, Prompt), ChatError> {
    let bytes: usize = prompt.segments.iter().map(segment_bytes).sum();
    if bytes <= limits::TOKENIZE_INLINE_BYTES_MAX {
        return Ok((prompt.tokenize(&*vocabulary), prompt));
    }
    let work = move |is_wanted: &dyn Fn() -> bool| (prompt.tokenize_while(&*vocabulary, is_wanted), prompt);
    off_thread("tokenize the prompt", hold.clone(), work).await
}

fn segment_bytes(segment: &Segment) -> usize {
    match segment {
        Segment::Template(text) | Segment::Content(text) => text.len(),
        Segment::Tokens(_) => 0,
    }
}
