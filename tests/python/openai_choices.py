"""The official client, unchanged: several answers to one request, and the log probabilities of their tokens."""

import math
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)
(model,) = client.models.list().data
chat = dict(
    model=model.id,
    messages=[{"role": "user", "content": "Name a colour."}],
    max_completion_tokens=16,
    temperature=1.2,
    seed=3,
    n=3,
    logprobs=True,
    top_logprobs=2,
)


def check(tokens, text):
    # An answer that was cut may end within a character.
    spelled = b"".join(bytes(token.bytes) for token in tokens).decode(errors="ignore")
    assert spelled == text.rstrip("\ufffd"), (tokens, text)
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 2, token
        likeliest, second = (top.logprob for top in token.top_logprobs)
        assert likeliest >= second and likeliest >= token.logprob, token
        assert math.exp(likeliest) + math.exp(second) < 1 + 1e-4, token


whole = client.chat.completions.create(**chat)
assert [choice.index for choice in whole.choices] == [0, 1, 2], whole
for choice in whole.choices:
    check(choice.logprobs.content, choice.message.content)
assert len({choice.message.content for choice in whole.choices}) > 1, "every choice has a seed of its own"

texts, tokens, ends, usage = [""] * 3, [[], [], []], [None] * 3, None
for chunk in client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}):
    for choice in chunk.choices:
        texts[choice.index] += choice.delta.content or ""
        tokens[choice.index] += choice.logprobs.content if choice.logprobs else []
        ends[choice.index] = choice.finish_reason or ends[choice.index]
    usage = chunk.usage or usage
assert all(end in ("stop", "length") for end in ends), ends
for text, of_text in zip(texts, tokens):
    check(of_text, text)
assert usage.prompt_tokens == whole.usage.prompt_tokens, (usage, whole.usage)
assert usage.completion_tokens >= sum(map(len, tokens)), (usage, tokens)
