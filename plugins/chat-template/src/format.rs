//! In which form a model writes its calls: known by the marks that its template spells.

use serde::Deserialize;

/// A form of calls. README.md shows one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen 2.5 and 3, `SmolLM3`.
    Hermes,
    /// `<|tool_call|>[{"name": …, "arguments": …}]`: Granite 3, Phi-4-mini.
    Granite,
    /// `{"name": …, "parameters": …}`, perhaps behind `<|python_tag|>`: Llama 3.1 to 3.3.
    Llama,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`: Mistral up to v7.
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{…}`: Mistral from v11 on.
    MistralArgs,
    /// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>name` and a block of JSON: `DeepSeek` R1 and V3.
    Deepseek,
    /// `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}`: `DeepSeek` V3.1.
    #[serde(rename = "deepseek-v3.1")]
    DeepseekPlain,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder.
    QwenXml,
    /// `<|channel|>commentary to=functions.name<|message|>{…}`: gpt-oss.
    Harmony,
    /// `{"name": …, "arguments": …}` as the whole answer, a list of them, or in a fence: what a model is asked to write whose
    /// template says nothing of tools.
    Json,
}

const DEEPSEEK_CALLS: &str = "<｜tool▁calls▁begin｜>";
const DEEPSEEK_CALL: &str = "<｜tool▁call▁begin｜>";
pub(crate) const DEEPSEEK_SEPARATOR: &str = "<｜tool▁sep｜>";
pub(crate) const DEEPSEEK_END: &str = "<｜tool▁call▁end｜>";
const DEEPSEEK_CALLS_END: &str = "<｜tool▁calls▁end｜>";

impl Format {
    /// The form whose marks `template` spells; `None`: it spells none.
    pub(crate) fn of(template: &str) -> Option<Self> {
        let says = |mark: &str| template.contains(mark);
        Some(if says("<|channel|>") && says("<|message|>") {
            Self::Harmony
        } else if says("<function=") {
            Self::QwenXml
        } else if says("[TOOL_CALLS]") {
            if says("[ARGS]") { Self::MistralArgs } else { Self::Mistral }
        } else if says(DEEPSEEK_CALL) {
            let is_plain = says("+ '<｜tool▁sep｜>' + tool['function']['arguments']");
            if is_plain { Self::DeepseekPlain } else { Self::Deepseek }
        } else if says("<tool_call>") {
            Self::Hermes
        } else if says("<|tool_call|>") {
            Self::Granite
        } else if says("<|python_tag|>") || says("Environment: ipython") {
            Self::Llama
        } else {
            return None;
        })
    }

    /// What a call begins with, wherever in an answer.
    pub(crate) fn opens(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>"],
            Self::Granite => &["<|tool_call|>"],
            Self::Llama => &["<|python_tag|>"],
            Self::Mistral | Self::MistralArgs => &["[TOOL_CALLS]"],
            Self::Deepseek | Self::DeepseekPlain => &[DEEPSEEK_CALLS, DEEPSEEK_CALL],
            Self::QwenXml => &["<tool_call>", "<function="],
            Self::Harmony => &[],
            Self::Json => &["```json", "```tool_code", "```tool_call"],
        }
    }

    /// What may stand behind a call, each once and in this order.
    pub(crate) fn closes(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::QwenXml => &["</tool_call>"],
            Self::Granite => &["<|/tool_call|>"],
            Self::Deepseek | Self::DeepseekPlain => &["```", DEEPSEEK_END, DEEPSEEK_CALLS_END],
            Self::Llama | Self::Mistral | Self::MistralArgs | Self::Harmony => &[],
            Self::Json => &["```"],
        }
    }

    /// Whether an answer that begins as JSON may be a call.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Llama | Self::Json)
    }

    /// Control tokens of models that write this form, which the parser has to see.
    pub(crate) fn marks(self) -> Vec<&'static str> {
        let others: &[&str] = match self {
            Self::Mistral | Self::MistralArgs => &["[ARGS]", "[CALL_ID]"],
            Self::Deepseek | Self::DeepseekPlain => &[DEEPSEEK_SEPARATOR],
            Self::Harmony => &["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"],
            _ => &[],
        };
        let own = self.opens().iter().chain(self.closes()).chain(others);
        own.copied().filter(|mark| !mark.starts_with("```")).collect()
    }

    /// The pieces of a call in text: what stands before its name, between name and arguments, and behind those. A call of
    /// [`Format::QwenXml`] has no JSON, so it is written elsewhere.
    pub(crate) fn frame(self) -> [&'static str; 3] {
        match self {
            Self::Hermes | Self::QwenXml => ["<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>"],
            Self::Granite | Self::Mistral | Self::Json => ["{\"name\": \"", "\", \"arguments\": ", "}"],
            Self::Llama => ["{\"name\": \"", "\", \"parameters\": ", "}"],
            Self::MistralArgs => ["[TOOL_CALLS]", "[ARGS]", ""],
            Self::Deepseek => {
                ["<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "\n```json\n", "\n```<｜tool▁call▁end｜>"]
            }
            Self::DeepseekPlain => [DEEPSEEK_CALL, DEEPSEEK_SEPARATOR, DEEPSEEK_END],
            Self::Harmony => ["<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", ""],
        }
    }

    /// What stands before all calls of an answer, between two of them and behind them; `None` for the second: there is only
    /// one.
    pub(crate) fn list(self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Self::Hermes | Self::QwenXml | Self::Json => ("", Some("\n"), ""),
            Self::Granite => ("<|tool_call|>[", Some(", "), "]"),
            Self::Mistral => ("[TOOL_CALLS] [", Some(", "), "]"),
            Self::MistralArgs => ("", Some(""), ""),
            Self::Deepseek => (DEEPSEEK_CALLS, Some("\n"), DEEPSEEK_CALLS_END),
            Self::DeepseekPlain => (DEEPSEEK_CALLS, Some(""), DEEPSEEK_CALLS_END),
            Self::Llama => ("", Some("; "), ""),
            // A call ends the model's turn.
            Self::Harmony => ("", None, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_marks() {
        for (template, expected) in [
            ("{{ '<tool_call>\\n{\"name\"' }}", Some(Format::Hermes)),
            ("<tool_call>\\n<function=", Some(Format::QwenXml)),
            ("[TOOL_CALLS] [", Some(Format::Mistral)),
            ("[TOOL_CALLS]' + name + '[ARGS]", Some(Format::MistralArgs)),
            ("<|start|>assistant<|channel|>final<|message|>", Some(Format::Harmony)),
            ("Environment: ipython", Some(Format::Llama)),
            ("<|im_start|>", None),
        ] {
            assert_eq!(Format::of(template), expected, "{template}");
        }
    }
}
