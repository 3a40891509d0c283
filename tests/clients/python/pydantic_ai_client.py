"""pydantic-ai, unchanged: agents with text, with typed answers by calls and by schema, streamed, on both of OpenAI's APIs."""

import asyncio
import sys
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

base, name = sys.argv[1], sys.argv[3]
provider = OpenAIProvider(base_url=base, api_key="unused")
settings = {"temperature": 0, "max_tokens": 64}


class City(BaseModel):
    """A city."""

    city: Literal["Paris", "Rome"]


async def main():
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        model = kind(name, provider=provider)
        agent = Agent(model, instructions="Answer in one sentence.", model_settings=settings)
        # Answers are compared on a prompt that is known: what is computed anew may differ in a word.
        await agent.run("What is the capital of France?")
        whole = await agent.run("What is the capital of France?")
        assert "Paris" in whole.output, whole
        async with agent.run_stream("What is the capital of France?") as run:
            parts = [part async for part in run.stream_text(delta=True, debounce_by=None)]
        assert len(parts) > 3 and "".join(parts).strip() == whole.output.strip(), (parts, whole.output)

        # What was said goes back.
        more = await agent.run("And of Italy?", message_history=whole.all_messages())
        assert more.output and len(more.all_messages()) == 4, more

        for form in (ToolOutput(City), NativeOutput(City)):
            found = await Agent(model, output_type=form, model_settings=settings).run("Name a capital.")
            assert isinstance(found.output, City), found

        try:
            await Agent(kind("another", provider=provider)).run("Hi")
        except ModelHTTPError as error:
            assert error.status_code == 404 and "is not served here" in str(error.body), error
        else:
            raise AssertionError("another model answered")


asyncio.run(main())
