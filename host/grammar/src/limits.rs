//! Every limit of compiling and following grammars, with its unit and its reason.

use std::time::Duration;

/// Bytes of a JSON schema. OpenAI takes 120,000 characters of names and values; a generated schema of an API's largest
/// object has 50 KB.
pub const SCHEMA_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a Lark or GBNF grammar: that of a whole programming language has 20 KB.
pub const GRAMMAR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a Lark grammar that a prompt asks for: the schemas of all functions of a request, and what stands around them.
pub const PROMPT_GRAMMAR_BYTES_MAX: usize = 384 * 1024;
/// Bytes of a regular expression. A list of a thousand words has 8 KB.
pub const REGEX_BYTES_MAX: usize = 16 * 1024;
/// Nesting of objects and arrays in a schema; OpenAI allows ten levels of properties, each of which takes two of these.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Subschemas of a schema, definitions included: compiling recurses through references, and each takes some stack.
pub const SCHEMA_NODES_MAX: usize = 5_000;
/// Nesting of groups in a regular expression.
pub const REGEX_DEPTH_MAX: u32 = 64;
/// Nesting of groups in a Lark or GBNF grammar; llguidance's own limit is 30.
pub const GRAMMAR_DEPTH_MAX: usize = 28;
/// Rules of a Lark or GBNF grammar: compiling recurses from rule to rule.
pub const RULES_MAX: usize = 1_000;
/// The largest count in a GBNF repetition, as in llama.cpp (`MAX_REPETITION_THRESHOLD`).
pub const REPETITION_MAX: u32 = 2_000;

/// Time of a processor that compiling a grammar may take. A schema takes 1 to 20 ms; on an idle machine this is what a client
/// waits at most for the first token of a strange one.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time by the clock on the wall, the wait for others' included: where a thread gets a sixth of a processor and less, the machine is
/// overloaded, and who asks again later is better served.
pub const COMPILE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Compilations at once, those included that nobody waits for any more: they compete with decoding for the cores.
pub const COMPILATIONS_MAX: usize = 2;
/// Bytes of stack of a compiling thread; touched only by what recurses so deep.
pub const COMPILE_STACK_BYTES: usize = 128 * 1024 * 1024;

/// Steps of building a grammar's lexer: about 20 ms (llguidance's unit of fuel is 20 ns here).
pub const LEXER_FUEL_MAX: u64 = 1_000_000;
/// Symbols of a compiled grammar; the largest schemas in use (FHIR) have 200,000.
pub const SYMBOLS_MAX: usize = 200_000;
/// Steps of the lexer for one mask: about 15 ms.
pub const MASK_LEXER_FUEL_MAX: u64 = 200_000;
/// Items of the parser for one mask: about 5 ms.
pub const MASK_ITEMS_MAX: usize = 100_000;
/// Items of the parser for one byte: how ambiguous a grammar may be.
pub const ROW_ITEMS_MAX: usize = 2_000;
/// States of a grammar's lexer. A schema uses some hundred; a state takes one to two kilobytes.
pub const LEXER_STATES_MAX: usize = 32_768;
/// States from which on the next completion starts with a fresh lexer, so that no grammar wears out.
pub const LEXER_STATES_WORN: usize = LEXER_STATES_MAX / 2;

/// Compiled grammars that are kept. An application has a handful.
pub const CACHE_COUNT_MAX: usize = 64;
/// Bytes of compiled grammars that are kept.
pub const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of an error's text from llguidance that are passed on.
pub(crate) const REASON_BYTES_MAX: usize = 1_024;
