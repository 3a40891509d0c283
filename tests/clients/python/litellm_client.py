"""litellm, unchanged: OpenAI's and Anthropic's forms, whole and streamed, a call, a form, its own exceptions, and vectors."""

import json
import os
import sys

# Its list of prices comes with the package; otherwise it asks the network for a newer one.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"
import litellm

base, embeddings, model = sys.argv[1:4]
ask = dict(
    model=f"openai/{model}",
    api_base=base,
    api_key="unused",
    messages=[{"role": "user", "content": "What is the capital of France? Answer in one sentence."}],
    temperature=0,
    max_tokens=32,
    num_retries=0,
)

# Answers are compared on a prompt that is known: what is computed anew may differ in a word.
litellm.completion(**dict(ask, max_tokens=1))
whole = litellm.completion(**ask)
text = whole.choices[0].message.content
assert "Paris" in text and whole.usage.completion_tokens > 1, whole
chunks = list(litellm.completion(**ask, stream=True, stream_options={"include_usage": True}))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text, chunks
built = litellm.stream_chunk_builder(chunks, messages=ask["messages"])
assert built.usage.completion_tokens == whole.usage.completion_tokens, (built.usage, whole.usage)
assert built.choices[0].finish_reason == whole.choices[0].finish_reason, (built, whole)

# The same question in Anthropic's form, by the same library.
other = dict(ask, model=f"anthropic/{model}", api_base=base.removesuffix("/v1"))
said = litellm.completion(**other).choices[0].message.content
assert said == text, (said, text)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**other, stream=True))
assert streamed == text, (streamed, text)

function = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
for how in (ask, other):
    called = litellm.completion(**dict(how, max_tokens=100), tools=[function], tool_choice="required")
    call = called.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather", called
    assert json.loads(call.function.arguments)["city"] in ("Paris", "London"), called
    assert called.choices[0].finish_reason == "tool_calls", called

schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
assert json.loads(litellm.completion(**ask, response_format=form).choices[0].message.content)["city"] in ("Paris", "Rome")

for wrong, expected in [
    (dict(ask, model="openai/another"), litellm.NotFoundError),
    (dict(ask, temperature=9), litellm.BadRequestError),
    (dict(other, model="anthropic/another"), litellm.NotFoundError),
    (dict(ask, messages=[{"role": "user", "content": "word " * 20000}]), litellm.ContextWindowExceededError),
]:
    try:
        litellm.completion(**wrong)
    except expected as error:
        assert error.message, error
    else:
        raise AssertionError(f"{str(wrong)[:200]} was accepted")

vectors = litellm.embedding(model="openai/all-MiniLM-L6-v2.f16", api_base=embeddings, api_key="unused", input=["a cat", "a kitten", "tax law"])
cat, kitten, law = [item["embedding"] for item in vectors.data]
dot = lambda a, b: sum(x * y for x, y in zip(a, b))
assert len(cat) == 384 and dot(cat, kitten) > dot(cat, law) + 0.2, (dot(cat, kitten), dot(cat, law))
