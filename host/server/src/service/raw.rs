//! A prompt that no template renders: what policies judge of it, and what the model reads.

use inference::{Message, Prompt, Role, Segment, Token, Vocabulary};

use super::ChatError;
use super::encode::Input;

/// A prompt as the client gave it.
pub(super) struct Raw {
    text: String,
    /// What it came as, where that were tokens.
    tokens: Option<Vec<Token>>,
}

impl Raw {
    /// Reads a prompt. `member`: where the request has it.
    ///
    /// Tokens have to stand for a text: what is judged is then what the model reads. Control tokens stand for none, and only
    /// templates write them; the one that prompts begin with may stand at the beginning.
    pub(super) fn new(input: &Input, member: &str, vocabulary: &dyn Vocabulary) -> Result<Self, ChatError> {
        let tokens = match input {
            Input::Text(text) => return Ok(Self { text: text.clone(), tokens: None }),
            Input::Tokens(tokens) => tokens,
        };
        let member = || member.to_owned();
        let starts = [vocabulary.prompt_start(), vocabulary.beginning_of_sequence()];
        let (mut bytes, vocabulary_size) = (Vec::new(), vocabulary.size());
        for (place, &token) in tokens.iter().enumerate() {
            if token.0 >= vocabulary_size {
                return Err(ChatError::UnknownToken { member: member(), token: token.0, vocabulary_size });
            }
            let before = bytes.len();
            vocabulary.append_piece(token, &mut bytes);
            let is_start = place == 0 && starts.contains(&Some(token));
            if bytes.len() == before && !is_start {
                return Err(ChatError::TokenWithoutText { member: member(), token: token.0 });
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| ChatError::TokensOfNoText { member: member() })?;
        Ok(Self { text, tokens: Some(tokens.clone()) })
    }

    /// What the policies see.
    pub(super) fn messages(&self) -> Vec<Message> {
        vec![Message::text(Role::User, self.text.clone())]
    }

    /// Puts the tokens that the client gave into the prompt, where the policies left the text as it is.
    pub(super) fn settle(self, prompt: &mut Prompt) {
        if let Some(tokens) = self.tokens
            && prompt.text() == self.text
        {
            prompt.segments = vec![Segment::Tokens(tokens)];
        }
    }
}
