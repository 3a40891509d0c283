"""instructor, unchanged: typed answers by calls, by schemas and piece by piece, and what it does about a refusal."""

import sys
from typing import Literal

import instructor
import openai
from pydantic import BaseModel, Field

base = sys.argv[1]
client = openai.OpenAI(base_url=base, api_key="unused", max_retries=0, timeout=120)
(model,) = client.models.list().data


class Review(BaseModel):
    """What a review says."""

    mood: Literal["good", "bad"]
    stars: int = Field(ge=1, le=5)


ask = dict(
    model=model.id,
    messages=[{"role": "user", "content": "The food was wonderful, five stars!"}],
    temperature=0,
    max_tokens=200,
    max_retries=0,
)
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    typed = instructor.from_openai(client, mode=mode)
    review, raw = typed.chat.completions.create_with_completion(response_model=Review, **ask)
    assert isinstance(review, Review) and 1 <= review.stars <= 5, (mode, review)
    message = raw.choices[0].message
    assert bool(message.tool_calls) == (mode is instructor.Mode.TOOLS), message

parts = list(instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(response_model=Review, **ask))
assert len(parts) > 1 and parts[-1].mood in ("good", "bad") and 1 <= parts[-1].stars <= 5, parts

try:
    instructor.from_openai(client).chat.completions.create(response_model=Review, **dict(ask, model="another"))
except Exception as error:
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert "is not served here" in " ".join(str(cause) for cause in causes), causes
else:
    raise AssertionError("another model answered")
