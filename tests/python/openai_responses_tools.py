"""The official client, unchanged: calls as items of a response, whole and streamed, and their results sent back."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)
(model,) = client.models.list().data
weather = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
question = {"role": "user", "content": "What is the weather in Paris?"}
ask = dict(model=model.id, tools=[weather], parallel_tool_calls=False, temperature=0, max_output_tokens=200)

called = client.responses.create(**ask, input=[question], tool_choice={"type": "function", "name": "get_weather"})
(call,) = called.output
assert call.type == "function_call" and call.call_id and call.name == "get_weather", called
assert json.loads(call.arguments)["city"] in ("Paris", "London"), call

with client.responses.stream(**ask, input=[question], tool_choice="required") as stream:
    done = [event.arguments for event in stream if event.type == "response.function_call_arguments.done"]
    (again,) = stream.get_final_response().output
assert done == [again.arguments] and again.name == "get_weather", (done, again)

result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
items = [question, call.model_dump(exclude_none=True), result]
answer = client.responses.create(**dict(ask, max_output_tokens=16), input=items, tool_choice="none")
assert answer.output[0].type == "message" and answer.output_text, answer
