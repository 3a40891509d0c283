"""Anthropic's official client, unchanged: messages whole and streamed, stop sequences, tokens counted, a form, and errors."""

import json
import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1].removesuffix("/v1"), api_key="unused", max_retries=0, timeout=120)
(model,) = [model["id"] for model in client.get("/v1/models", cast_to=object)["data"]]
question = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]
ask = dict(model=model, system="Answer in one sentence.", messages=question, extra_body={"temperature": 0}, max_tokens=32)

whole = client.messages.create(**ask)
(block,) = whole.content
assert block.type == "text" and "Paris" in block.text, whole
assert whole.role == "assistant" and whole.stop_reason in ("end_turn", "max_tokens"), whole
assert whole._request_id and whole.id.endswith(whole._request_id), whole

with client.messages.stream(**ask) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == final.content[0].text == block.text, (text, final, whole)
assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens, (final, whole)
read = lambda usage: usage.input_tokens + usage.cache_read_input_tokens
assert read(final.usage) == read(whole.usage), (final.usage, whole.usage)

kinds = [event.type for event in client.messages.create(**ask, stream=True)]
assert kinds[0] == "message_start" and kinds[1] == "content_block_start", kinds
assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds

counted = client.messages.count_tokens(model=model, system=ask["system"], messages=question)
assert counted.input_tokens == read(whole.usage), (counted, whole.usage)

stopped = client.messages.create(**dict(ask, max_tokens=64), stop_sequences=["zzz", "France"])
if stopped.stop_reason == "stop_sequence":
    assert stopped.stop_sequence == "France" and "France" not in stopped.content[0].text, stopped
assert "France" not in "".join(block.text for block in stopped.content), stopped

cut = client.messages.create(**dict(ask, max_tokens=1))
assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 1, cut

# The answer goes back as the client has it.
more = question + [{"role": "assistant", "content": whole.content}, {"role": "user", "content": "And of Italy?"}]
assert client.messages.create(**dict(ask, messages=more)).content[0].text

schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
formed = client.messages.create(**ask, output_config={"format": {"type": "json_schema", "schema": schema}})
assert json.loads(formed.content[0].text)["city"] in ("Paris", "Rome"), formed

# Plugins see it: `redact` masks what the model repeats.
repeat = dict(ask, system="Repeat what I say.", messages=[{"role": "user", "content": "Write to anna@example.com."}])
assert "anna@example.com" not in client.messages.create(**repeat).content[0].text

image = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://localhost/a.png"}}]}]
for wrong, expected in [
    (dict(ask, model="another"), anthropic.NotFoundError),
    (dict(ask, messages=image), anthropic.BadRequestError),
    (dict(ask, extra_body={"temperature": 9}), anthropic.BadRequestError),
]:
    try:
        client.messages.create(**wrong)
    except expected as error:
        assert error.body["type"] == "error" and error.body["error"]["message"], error.body
    else:
        raise AssertionError(f"{wrong} was accepted")
