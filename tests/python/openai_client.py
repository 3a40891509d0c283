"""The official client, unchanged: models, a buffered chat, the same chat streamed, and errors as its own exceptions."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)

(model,) = client.models.list().data
assert client.models.retrieve(model.id).id == model.id

chat = dict(
    model=model.id,
    messages=[
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]},
    ],
    temperature=0,
    max_completion_tokens=32,
)
buffered = client.chat.completions.create(**chat)
(choice,) = buffered.choices
assert "Paris" in choice.message.content, choice
assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length"), choice
assert buffered.usage.total_tokens == buffered.usage.prompt_tokens + buffered.usage.completion_tokens

content, finish, usage = "", None, None
for chunk in client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}):
    for choice in chunk.choices:
        content += choice.delta.content or ""
        finish = choice.finish_reason or finish
    usage = chunk.usage or usage
assert content == buffered.choices[0].message.content, (content, buffered)
assert finish == buffered.choices[0].finish_reason
# What is cached differs: the second request finds the first one's prompt computed.
counts = ("prompt_tokens", "completion_tokens", "total_tokens")
assert all(getattr(usage, count) == getattr(buffered.usage, count) for count in counts), (usage, buffered.usage)
assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1, usage

for wrong, expected in [
    (dict(chat, model="another"), openai.NotFoundError),
    (dict(chat, messages=[]), openai.BadRequestError),
    (dict(chat, temperature=9), openai.BadRequestError),
]:
    try:
        client.chat.completions.create(**wrong)
    except expected as error:
        assert error.body["message"], error
    else:
        raise AssertionError(f"{wrong} was accepted")
