//! Inputs encoded, whatever transport they came over: admission, tokens, engine, account.
//!
//! No plugin sees them: the stages of the plugin contract are about conversations. A plugin that is meant for a model that
//! encodes is refused, so that no policy is bypassed.

use std::sync::Arc;

use admission::Permit;
use inference::{Annotations, EncodingEngine, EncodingRequest, EncodingTask, Finish, RequestId, Token, Vocabulary};
use telemetry::Endpoint;

use super::admission::Terms;
use super::off_thread::{Hold, off_thread};
use super::record::Record;
use super::{ChatError, Service};
use crate::limits;

/// Inputs that are to become vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// The model's name as the client wrote it.
    pub model: String,
    /// The inputs; at least one, none empty.
    pub inputs: Vec<Input>,
    /// Numbers of each vector; `None`: as many as the model gives.
    pub dimensions: Option<u32>,
    /// Inputs that are too long are cut at their end, instead of being refused.
    pub truncate: bool,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Text. What it spells stays text.
    Text(String),
    /// Tokens, taken as they are: nothing is put around them.
    Tokens(Vec<Token>),
}

/// Documents that are to be ranked by how well they answer a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankingRequest {
    /// The model's name as the client wrote it.
    pub model: String,
    /// The query.
    pub query: String,
    /// The documents; at least one.
    pub documents: Vec<String>,
    /// Documents that are too long are cut at their end, instead of being refused.
    pub truncate: bool,
}

/// What inputs became. It holds the request's slot.
pub struct Outputs {
    /// The model that computed them.
    pub model: String,
    /// By input, in order: a vector of length 1, or one score from 0 to 1.
    pub outputs: Vec<Vec<f32>>,
    /// Tokens of all inputs, with what stands around them.
    pub prompt_tokens: u32,
    _permit: Option<Arc<Permit>>,
}

impl Service {
    /// Makes vectors of inputs. The future may be dropped at any point.
    pub async fn embed(&self, request: EmbeddingRequest, id: RequestId, terms: &Terms) -> Result<Outputs, ChatError> {
        let EmbeddingRequest { model, inputs, dimensions, truncate } = request;
        let bytes = inputs.iter().map(Input::bytes).sum();
        let tokens = move |engine: &dyn EncodingEngine, is_wanted: &dyn Fn() -> bool| {
            embedding_inputs(&inputs, dimensions, truncate, engine, is_wanted)
        };
        let mut outputs = self.encode(&model, id, Endpoint::Embeddings, terms, bytes, tokens).await?;
        for vector in &mut outputs.outputs {
            vector.truncate(dimensions.map_or(usize::MAX, |most| most as usize));
            normalise(vector);
        }
        Ok(outputs)
    }

    /// Scores documents. The future may be dropped at any point.
    pub async fn rank(&self, request: RankingRequest, id: RequestId, terms: &Terms) -> Result<Outputs, ChatError> {
        let RankingRequest { model, query, documents, truncate } = request;
        let bytes = documents.iter().map(|document| document.len() + query.len()).sum();
        let tokens = move |engine: &dyn EncodingEngine, is_wanted: &dyn Fn() -> bool| {
            ranking_inputs(&query, &documents, truncate, engine, is_wanted)
        };
        self.encode(&model, id, Endpoint::Rerank, terms, bytes, tokens).await
    }

    /// The model of this name, if it does what `endpoint` is for.
    async fn encoder(&self, model: &str, endpoint: Endpoint) -> Result<Arc<dyn EncodingEngine>, ChatError> {
        let (loaded, _) = self.loaded(model).await?;
        match loaded.encoder() {
            Some(engine) if endpoint_of(engine.facts().task) == endpoint => Ok(engine),
            _ => Err(loaded.other_task()),
        }
    }

    async fn encode(
        &self,
        model: &str,
        id: RequestId,
        endpoint: Endpoint,
        terms: &Terms,
        bytes: usize,
        tokens: impl FnOnce(&dyn EncodingEngine, &dyn Fn() -> bool) -> Result<Vec<Vec<Token>>, ChatError> + Send + 'static,
    ) -> Result<Outputs, ChatError> {
        let deadline = self.deadline(terms);
        let engine = self.within(deadline, self.encoder(model, endpoint)).await?;
        let mut record = Record::new(self.metrics.inference.clone(), id.clone(), &engine.card().id, false, endpoint);
        let encoded = async {
            // The slot comes first, as for a chat: what waits in line costs no CPU.
            let hold = self.admit(terms, Some(&mut record)).await?;
            let inputs = tokenize(Arc::clone(&engine), bytes, &hold, tokens).await?;
            let prompt_tokens = inputs.iter().map(|input| u32::try_from(input.len()).unwrap_or(u32::MAX));
            record.tally().prompt(prompt_tokens.fold(0, u32::saturating_add));
            let encoding = engine.submit(EncodingRequest { id, inputs })?;
            Ok((encoding.finish().await?, hold))
        };
        match self.within(deadline, encoded).await {
            Ok((encoded, hold)) => {
                record.finished(Finish::Stop, Some(encoded.timings), Annotations::default());
                Ok(Outputs {
                    model: engine.card().id.clone(),
                    outputs: encoded.outputs,
                    prompt_tokens: record.tally().prompt_tokens(),
                    _permit: hold.permit,
                })
            }
            Err(error) => {
                record.failed(&error);
                Err(error)
            }
        }
    }
}

/// Where a model that does this is asked.
pub(super) fn endpoint_of(task: EncodingTask) -> Endpoint {
    match task {
        EncodingTask::Embedding { .. } => Endpoint::Embeddings,
        EncodingTask::Ranking => Endpoint::Rerank,
    }
}

impl Input {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(_) => 0,
        }
    }
}

/// Much text is tokenized off the async threads, where nobody's stream waits for it.
async fn tokenize(
    engine: Arc<dyn EncodingEngine>,
    bytes: usize,
    hold: &Hold,
    tokens: impl FnOnce(&dyn EncodingEngine, &dyn Fn() -> bool) -> Result<Vec<Vec<Token>>, ChatError> + Send + 'static,
) -> Result<Vec<Vec<Token>>, ChatError> {
    if bytes <= limits::TOKENIZE_INLINE_BYTES_MAX {
        return tokens(&*engine, &|| true);
    }
    off_thread("tokenize the inputs", hold.clone(), move |is_wanted| tokens(&*engine, is_wanted)).await?
}

fn embedding_inputs(
    inputs: &[Input],
    dimensions: Option<u32>,
    truncate: bool,
    engine: &dyn EncodingEngine,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Vec<Vec<Token>>, ChatError> {
    if let (Some(asked), EncodingTask::Embedding { dimensions: most }) = (dimensions, engine.facts().task)
        && asked > most
    {
        return Err(ChatError::TooManyDimensions { asked, most });
    }
    let context_length = engine.card().context_length as usize;
    let vocabulary: &dyn Vocabulary = &**engine.vocabulary();
    let tokens_of = |(number, input): (usize, &Input)| {
        let place = || format!("input[{number}]");
        let mut tokens = match input {
            Input::Text(text) => engine.facts().frame.text(text, truncate.then_some(context_length), vocabulary),
            Input::Tokens(tokens) => {
                if let Some(token) = tokens.iter().find(|token| token.0 >= vocabulary.size()) {
                    let vocabulary_size = vocabulary.size();
                    return Err(ChatError::UnknownToken { member: place(), token: token.0, vocabulary_size });
                }
                tokens.clone()
            }
        };
        if truncate {
            tokens.truncate(context_length);
        }
        checked(tokens, context_length, place)
    };
    inputs.iter().enumerate().take_while(|_| is_wanted()).map(tokens_of).collect()
}

fn ranking_inputs(
    query: &str,
    documents: &[String],
    truncate: bool,
    engine: &dyn EncodingEngine,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Vec<Vec<Token>>, ChatError> {
    let context_length = engine.card().context_length as usize;
    let tokens_max = truncate.then_some(context_length);
    let query = engine.facts().frame.query(query, &**engine.vocabulary());
    let tokens_of = |(number, document): (usize, &String)| {
        let tokens = query.with(document, tokens_max);
        checked(tokens, context_length, || format!("documents[{number}]"))
    };
    documents.iter().enumerate().take_while(|_| is_wanted()).map(tokens_of).collect()
}

fn checked(tokens: Vec<Token>, context_length: usize, place: impl Fn() -> String) -> Result<Vec<Token>, ChatError> {
    match tokens.len() {
        0 => Err(ChatError::InputEmpty { member: place() }),
        tokens if tokens > context_length => Err(ChatError::InputTooLong { member: place(), tokens, context_length }),
        _ => Ok(tokens),
    }
}

/// Makes a vector's length 1. One without any stays as it is.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|&number| f64::from(number) * f64::from(number)).sum::<f64>().sqrt();
    if length > 0.0 {
        for number in vector {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "at most 1, and a vector has the precision of its model"
            )]
            let scaled = (f64::from(*number) / length) as f32;
            *number = scaled;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut vector: Vec<f32>, expected: &[f32]) {
        normalise(&mut vector);
        let is_near = vector.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(is_near && vector.len() == expected.len(), "{vector:?}, expected {expected:?}");
    }

    #[test]
    fn a_vector_has_length_one_or_none() {
        check(vec![3.0, -4.0], &[0.6, -0.8]);
        check(vec![0.0, 0.0], &[0.0, 0.0]);
        check(vec![], &[]);
        // Beyond what a 32-bit sum of squares holds.
        check(vec![3e30, 4e30], &[0.6, 0.8]);
        check(vec![3e-30, 4e-30], &[0.6, 0.8]);
    }
}
