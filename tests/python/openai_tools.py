"""The official client, unchanged: calls that are required and named, streamed and not, and their results sent back."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)
(model,) = client.models.list().data
weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}, "days": {"enum": [1, 2, 3]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
chat = dict(model=model.id, messages=messages, tools=[weather], temperature=0, max_completion_tokens=200)
named = {"type": "function", "function": {"name": "get_weather"}}


def check(call):
    assert call.type == "function" and call.id and call.function.name == "get_weather", call
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Paris", "London") and arguments["days"] in (1, 2, 3) and len(arguments) == 2, call


whole = client.chat.completions.create(**chat, tool_choice=named).choices[0]
assert whole.finish_reason == "tool_calls" and whole.message.content is None, whole
(call,) = whole.message.tool_calls
check(call)

# The deltas, put together by hand.
name, arguments, fragments = "", "", 0
for chunk in client.chat.completions.create(**chat, tool_choice=named, stream=True):
    for delta in chunk.choices[0].delta.tool_calls or []:
        assert delta.index == 0, delta
        name += delta.function.name or ""
        arguments += delta.function.arguments
        fragments += bool(delta.function.arguments)
assert (name, arguments) == ("get_weather", call.function.arguments), (name, arguments)
assert fragments > 1, "arguments come as they are written"

# The same by the client's own hand.
with client.chat.completions.stream(**chat, tool_choice=named) as stream:
    done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    final = stream.get_final_completion().choices[0]
assert final.finish_reason == "tool_calls", final
assert [event.arguments for event in done] == [call.function.arguments], done
check(final.message.tool_calls[0])
assert final.message.tool_calls[0].function.parsed_arguments == json.loads(call.function.arguments), final

allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
for choice in ("required", allowed):
    several = client.chat.completions.create(**chat, tool_choice=choice, n=2, seed=1).choices
    ids = [call.id for choice in several for call in choice.message.tool_calls]
    assert len(several) == 2 and len(set(ids)) == len(ids), several
    for made in several:
        if made.finish_reason == "tool_calls":
            for call in made.message.tool_calls:
                check(call)

# The result goes back, with the message as the client has it.
messages.append(whole.message.model_dump(exclude_none=True))
messages.append({"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "sunny, 20 degrees"})
answer = client.chat.completions.create(**chat, tool_choice="none").choices[0]
assert answer.message.tool_calls is None and isinstance(answer.message.content, str), answer

try:
    client.chat.completions.create(**chat, tool_choice={"type": "function", "function": {"name": "rm"}})
    raise AssertionError("a function that is not there was called")
except openai.BadRequestError as error:
    assert error.param == "tool_choice", error
