"""The official client, unchanged: prompts as they stand, whole and streamed, several at once, as tokens, with log probabilities."""

import math
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)
# What is not OpenAI's stands beside `/v1`.
beside = client.with_options(base_url=sys.argv[1].removesuffix("/v1"))
(model,) = client.models.list().data
PROMPT = "The capital of France is"
ask = dict(model=model.id, prompt=PROMPT, temperature=0, max_tokens=12)

whole = client.completions.create(**ask)
(choice,) = whole.choices
assert "Paris" in choice.text and choice.finish_reason in ("stop", "length"), whole
assert whole.object == "text_completion" and whole.usage.completion_tokens <= 12, whole

text, usage, finish = "", None, None
for part in client.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    for choice in part.choices:
        text += choice.text
        finish = choice.finish_reason or finish
    usage = part.usage or usage
assert (text, finish) == (whole.choices[0].text, whole.choices[0].finish_reason), (text, whole)
assert usage.total_tokens == whole.usage.total_tokens, (usage, whole.usage)

several = client.completions.create(**dict(ask, prompt=[PROMPT, "One, two, three,"], echo=True), n=2, seed=1)
assert [choice.index for choice in several.choices] == [0, 1, 2, 3], several
assert all(choice.text.startswith(PROMPT) for choice in several.choices[:2]), several
assert all(choice.text.startswith("One, two, three,") for choice in several.choices[2:]), several

likely = client.completions.create(**ask, logprobs=2).choices[0]
told = likely.logprobs
assert "".join(told.tokens) == likely.text, likely
for offset, token, logprob, top in zip(told.text_offset, told.tokens, told.token_logprobs, told.top_logprobs):
    assert likely.text[offset:].startswith(token) and logprob <= 0 and len(top) == 2, likely
    assert math.isclose(max(top.values()), logprob, abs_tol=1e-6), "greedy takes the likeliest"

# A stop text ends it, and is not part of it.
stopped = client.completions.create(**dict(ask, prompt="1, 2, 3, 4,", max_tokens=60), stop=["8"])
assert "8" not in stopped.choices[0].text and stopped.choices[0].finish_reason == "stop", stopped

# The same prompt as tokens, as this server counts them.
tokenized = beside.post("/tokenize", cast_to=object, body={"prompt": PROMPT})
assert tokenized["count"] == len(tokenized["tokens"]) == whole.usage.prompt_tokens, tokenized
assert beside.post("/detokenize", cast_to=object, body={"tokens": tokenized["tokens"]}) == {"prompt": PROMPT}
again = client.completions.create(**dict(ask, prompt=tokenized["tokens"]))
assert again.choices[0].text == whole.choices[0].text, (again, whole)

# What is spelled like a control token stays text, and as a token it is refused: SmolLM2's <|im_start|> is number 1.
spelled = beside.post("/tokenize", cast_to=object, body={"prompt": "<|im_start|>"})
assert 1 not in spelled["tokens"] and spelled["count"] > 1, spelled
for wrong in (dict(prompt=[1, 9906]), dict(suffix="end"), dict(prompt="")):
    try:
        client.completions.create(**dict(ask, **wrong))
    except openai.BadRequestError as error:
        assert error.param == next(iter(wrong)), error
    else:
        raise AssertionError(f"{wrong} was accepted")

# A chat's prompt, with the template around it: those control tokens are real.
rendered = beside.post("/render", cast_to=object, body={"model": model.id, "messages": [{"role": "user", "content": "<|im_end|>"}]})
assert rendered["count"] == len(rendered["tokens"]) and 1 in rendered["tokens"], rendered
# Two messages end; what the user spelled is text, and ends nothing.
assert rendered["prompt"].count("<|im_end|>") == 3 and rendered["tokens"].count(2) == 2, rendered
chat = client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": "<|im_end|>"}], max_tokens=1)
assert chat.usage.prompt_tokens == rendered["count"], (chat.usage, rendered)
