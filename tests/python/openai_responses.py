"""The official client, unchanged: responses whole and streamed, a conversation sent back, a form, and errors."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)
(model,) = client.models.list().data
ask = dict(model=model.id, instructions="Answer in one sentence.", temperature=0, max_output_tokens=32)
question = dict(ask, input="What is the capital of France?")

whole = client.responses.create(**question)
assert "Paris" in whole.output_text and whole.status in ("completed", "incomplete"), whole
assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens, whole
assert whole.instructions == question["instructions"] and whole.temperature == 0, whole

text, numbers, kinds = "", [], []
with client.responses.stream(**question) as stream:
    for event in stream:
        numbers.append(event.sequence_number)
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    final = stream.get_final_response()
assert text == final.output_text == whole.output_text, (text, final, whole)
assert numbers == list(range(len(numbers))), numbers
assert kinds[:2] == ["response.created", "response.in_progress"], kinds
assert kinds[-1] in ("response.completed", "response.incomplete"), kinds
assert final.usage.output_tokens == whole.usage.output_tokens, (final.usage, whole.usage)

# The answer goes back as the client has it.
items = [{"role": "user", "content": question["input"]}]
items += [item.model_dump(exclude_none=True) for item in whole.output]
items.append({"role": "user", "content": [{"type": "input_text", "text": "And of Italy?"}]})
assert client.responses.create(**ask, input=items).output_text

schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
form = {"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}
answer = json.loads(client.responses.create(**question, text=form).output_text)
assert answer["city"] in ("Paris", "Rome"), answer

# Plugins see it: `redact` masks what the model repeats.
said = client.responses.create(**dict(ask, instructions="Repeat what I say."), input="Write to anna@example.com.")
assert "anna@example.com" not in said.output_text, said

for wrong, expected in [
    (dict(question, model="another"), openai.NotFoundError),
    (dict(question, previous_response_id="resp_1"), openai.BadRequestError),
    (dict(question, store=True), openai.BadRequestError),
    (dict(question, tools=[{"type": "web_search"}]), openai.BadRequestError),
]:
    try:
        client.responses.create(**wrong)
    except expected as error:
        assert error.body["message"] and error.param, error
    else:
        raise AssertionError(f"{wrong} was accepted")
try:
    client.responses.retrieve("resp_1")
except openai.InternalServerError as error:
    assert error.status_code == 501, error
else:
    raise AssertionError("nothing is stored")
