"""langchain-openai, unchanged: chats, streams, calls and forms by both of its APIs, its exceptions, and vectors."""

import sys
from typing import Literal

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

base, embeddings = sys.argv[1:3]
(model,) = openai.OpenAI(base_url=base, api_key="unused").models.list().data
question = [SystemMessage("Answer in one sentence."), HumanMessage("What is the capital of France?")]


class City(BaseModel):
    """A city."""

    city: Literal["Paris", "Rome"]


@tool
def get_weather(city: Literal["Paris", "London"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def chat(**more):
    settings = dict(model=model.id, base_url=base, api_key="unused", temperature=0, max_tokens=64, max_retries=0, stream_usage=True)
    return ChatOpenAI(**{**settings, **more})


# Answers are compared on a prompt that is known: what is computed anew may differ in a word.
chat(max_tokens=1).invoke(question)
for responses in (False, True):
    asked = chat(use_responses_api=responses)
    whole = asked.invoke(question)
    text = whole.text if isinstance(whole.text, str) else whole.text()
    assert "Paris" in text, whole
    usage = whole.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 10, usage

    parts = list(asked.stream(question))
    streamed = parts[0]
    for part in parts[1:]:
        streamed += part
    assert len(parts) > 3 and streamed.text == whole.text, (streamed, whole)
    assert streamed.usage_metadata["output_tokens"] == usage["output_tokens"], (streamed, usage)

    called = asked.bind_tools([get_weather], tool_choice="get_weather").invoke("What is the weather in Paris?")
    (call,) = called.tool_calls
    assert call["name"] == "get_weather" and call["args"]["city"] in ("Paris", "London") and call["id"], called
    # The result goes back, with the call as the library keeps it.
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    answer = asked.bind_tools([get_weather], tool_choice="none").invoke([HumanMessage("What is the weather in Paris?"), called, result])
    assert isinstance(answer, AIMessage) and not answer.tool_calls and answer.text, answer

    for method in ("json_schema", "function_calling"):
        found = asked.with_structured_output(City, method=method).invoke(question)
        assert isinstance(found, City), found

for wrong, expected in [(dict(model="another"), openai.NotFoundError), (dict(temperature=9), openai.BadRequestError)]:
    try:
        chat(**wrong).invoke(question)
    except expected as error:
        assert error.body["message"], error
    else:
        raise AssertionError(f"{wrong} was accepted")

# Its tokenizer is that of OpenAI's models: texts are sent as texts.
encoder = OpenAIEmbeddings(model="all-MiniLM-L6-v2.f16", base_url=embeddings, api_key="unused", check_embedding_ctx_length=False)
cat, kitten, law = encoder.embed_documents(["a cat", "a kitten", "tax law"])
dot = lambda a, b: sum(x * y for x, y in zip(a, b))
assert len(cat) == 384 and dot(cat, kitten) > dot(cat, law) + 0.2
assert dot(encoder.embed_query("a cat"), cat) > 0.999
