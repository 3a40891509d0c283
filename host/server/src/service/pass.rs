//! Through the plugins and into the engine: what a request's answers begin with. What comes before the model is done once for
//! each prompt, however many answers it has.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use inference::{
    Call, ChatRequest, Generation, GenerationRequest, Mark, Operation, PipelineRun, Prepared, Prompt, Segment,
    SubmitError, Token, Usage, Vocabulary,
};
use tokio::sync::OnceCell;

use super::grammar::Grammars;
use super::off_thread::{Hold, off_thread};
use super::raw::Raw;
use super::record::Tally;
use super::{Asked, ChatError, Input, Serving};
use crate::limits;

/// What is asked, and of whom.
pub(super) struct Pass {
    pub(super) serving: Serving,
    grammars: Arc<Grammars>,
    max_tokens_default: Option<u32>,
    call: Call,
    /// What was asked. Taken away where it is prepared once: messages may be megabytes.
    request: Mutex<Option<ChatRequest>>,
    prompts: Arc<[Input]>,
    /// Answers to each prompt.
    choices: NonZeroU32,
    /// See [`Asked::wants_objects`].
    wants_objects: bool,
    /// By prompt; one where the messages are a conversation.
    ready: Vec<OnceCell<Ready>>,
}

/// A request that the plugins let through, with its prompt: what all answers to it begin with.
pub(super) struct Ready {
    pub(super) request: ChatRequest,
    pub(super) prompt: Prompt,
    pub(super) tokens: Vec<Token>,
    wants_tokens: bool,
    /// Those of the answers that have not begun, by their place among the prompt's.
    runs: Mutex<Vec<Option<Box<dyn PipelineRun>>>>,
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
    /// See [`Asked::wants_objects`].
    pub(super) wants_objects: bool,
}

/// Who gets to see the tokens and how likely they were.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokensShownTo {
    pub(super) client: bool,
    pub(super) filters: bool,
}

impl Pass {
    pub(super) fn new(
        serving: Serving,
        grammars: Arc<Grammars>,
        max_tokens_default: Option<u32>,
        asked: Asked,
        call: Call,
    ) -> Self {
        let Asked { request, prompts, choices, wants_objects } = asked;
        let ready = (0..prompts.len().max(1)).map(|_| OnceCell::new()).collect();
        Self {
            serving,
            grammars,
            max_tokens_default,
            call,
            request: Mutex::new(Some(request)),
            prompts,
            choices,
            wants_objects,
            ready,
        }
    }

    /// The model that answers.
    pub(super) fn model(&self) -> &str {
        &self.serving.engine.card().id
    }

    /// Begins the answer number `index`.
    pub(super) async fn begin(&self, index: u32, hold: &Hold, tally: &Tally) -> Result<Begun, ChatError> {
        let (place, answer) = ((index / self.choices) as usize, index % self.choices);
        // Whoever comes first prepares it for all. Where that fails the request is over, and nobody tries again.
        let ready = self.ready[place].get_or_try_init(|| self.prepare(place, self.choices, hold, tally)).await?;
        let (card, vocabulary) = (self.serving.engine.card(), self.serving.engine.vocabulary());
        let Ready { request, prompt, tokens, .. } = ready;
        let prompt_tokens = count(tokens);
        let room = card.context_length.saturating_sub(prompt_tokens);
        if room == 0 {
            return Err(SubmitError::PromptTooLong { prompt_tokens, context_length: card.context_length }.into());
        }

        let mut run = ready.run(answer)?;
        let wants_tokens = if answer == 0 { ready.wants_tokens } else { run.open().await? };
        let shown_to = TokensShownTo { client: request.logprobs.is_some(), filters: wants_tokens };
        let grammar = self.grammars.compile(vocabulary, request, prompt.format.as_ref(), hold).await?;
        let control = run.control(tokens).await?;
        let mut sampling = request.sampling.clone();
        // The same seed would give the same answer again.
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(index.into()));
        let generation = self.serving.engine.submit(GenerationRequest {
            id: self.call.request_id.clone(),
            prompt: tokens.clone(),
            sampling,
            // More than fits is no error: the answer then ends with `length`, as it would have anyway.
            max_tokens: request.max_tokens.or(self.max_tokens_default).unwrap_or(room).clamp(1, room),
            stop: request.stop.iter().chain(&prompt.stop).cloned().collect(),
            stop_tokens: request.stop_tokens.clone(),
            marks: marks(&prompt.marks, &**vocabulary),
            grammar,
            control,
            logprobs: request.logprobs.or(wants_tokens.then_some(0)),
            ignore_end: request.ignore_end,
        })?;
        run.used(Usage { prompt_tokens, ..Usage::default() });
        let (stop, wants_objects) = (request.stop.clone(), self.wants_objects);
        Ok(Begun { generation, run, prompt_tokens, stop, shown_to, wants_objects })
    }

    /// Takes the prompt at `place` through the plugins as far as its tokens, for so many answers.
    pub(super) async fn prepare(
        &self,
        place: usize,
        answers: NonZeroU32,
        hold: &Hold,
        tally: &Tally,
    ) -> Result<Ready, ChatError> {
        let serving = &self.serving;
        let (card, vocabulary) = (serving.engine.card(), serving.engine.vocabulary());
        let raw = self.prompts.get(place).map(|input| {
            let member = if self.prompts.len() == 1 { "prompt".to_owned() } else { format!("prompt[{place}]") };
            Raw::new(input, &member, &**vocabulary)
        });
        let raw = raw.transpose()?;
        let mut request = self.request()?;
        if let Some(raw) = &raw {
            (request.operation, request.messages) = (Operation::Completion, raw.messages());
        }

        let choice = u32::try_from(place).unwrap_or(u32::MAX).saturating_mul(self.choices.get());
        let mut run = serving.pipeline.begin(Call { model: card.id.clone(), choice, ..self.call.clone() });
        let others: Vec<_> = (1..answers.get()).map(|_| Some(run.another())).collect();
        let Prepared { mut request, mut prompt, wants_tokens } = run.prepare(request).await?;
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
        // The prompt is what is left of them.
        request.messages = Vec::new();
        // All answers to a prompt share it.
        tally.prompt(count(&tokens));
        let runs = Mutex::new([Some(run)].into_iter().chain(others).collect());
        Ok(Ready { request, prompt, tokens, wants_tokens, runs })
    }

    /// What was asked, for one of the prompts.
    fn request(&self) -> Result<ChatRequest, ChatError> {
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        let request = if self.prompts.len() > 1 { request.clone() } else { request.take() };
        request.ok_or(ChatError::Internal { attempted: "prepare the prompt" })
    }
}

impl Ready {
    /// The run of an answer, which has it for itself from then on.
    pub(super) fn run(&self, answer: u32) -> Result<Box<dyn PipelineRun>, ChatError> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.get_mut(answer as usize).and_then(Option::take);
        run.ok_or(ChatError::Internal { attempted: "begin an answer" })
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
fn marks(texts: &[String], vocabulary: &dyn Vocabulary) -> Vec<Mark> {
    let mark = |text: &String| match vocabulary.find_control_token(text) {
        Some((place, token)) if place == (0..text.len()) => Some(Mark { token, text: text.clone() }),
        _ => None,
    };
    texts.iter().filter_map(mark).collect()
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
