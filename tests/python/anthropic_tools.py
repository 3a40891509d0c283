"""Anthropic's official client, unchanged: a tool that has to be used, whole and streamed, and its result sent back."""

import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1].removesuffix("/v1"), api_key="unused", max_retries=0, timeout=120)
(model,) = [model["id"] for model in client.get("/v1/models", cast_to=object)["data"]]
weather = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
question = {"role": "user", "content": "What is the weather in Paris?"}
ask = dict(model=model, tools=[weather], extra_body={"temperature": 0}, max_tokens=200)

used = client.messages.create(**ask, messages=[question], tool_choice={"type": "tool", "name": "get_weather"})
(use,) = used.content
assert use.type == "tool_use" and use.id and use.name == "get_weather" and used.stop_reason == "tool_use", used
assert use.input["city"] in ("Paris", "London"), use

with client.messages.stream(**ask, messages=[question], tool_choice={"type": "any", "disable_parallel_tool_use": True}) as stream:
    parts = [event.partial_json for event in stream if event.type == "input_json"]
    final = stream.get_final_message()
assert final.content[0].input["city"] in ("Paris", "London") and final.stop_reason == "tool_use", final
assert len(parts) > 1, "arguments come as they are written"

result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}
conversation = [question, {"role": "assistant", "content": used.content}, {"role": "user", "content": [result]}]
answer = client.messages.create(**dict(ask, max_tokens=16), messages=conversation, tool_choice={"type": "none"})
assert answer.content[0].type == "text" and answer.content[0].text, answer
