"""The official client, unchanged: vectors as it asks for them by itself, as numbers, fewer of them, and errors."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=120)

(model,) = client.models.list().data
SENTENCES = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
# What sentence-transformers publishes for them: the first beside each other one.
EXPECTED = [0.6945, 0.9428, 0.2568]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def check(vectors, tolerance):
    for vector in vectors:
        assert abs(cosine(vector, vector) - 1) < 1e-5, "vectors have length 1"
    found = [cosine(vectors[0], vector) for vector in vectors[1:]]
    assert all(abs(a - b) < tolerance for a, b in zip(found, EXPECTED)), (found, EXPECTED)


# Without `encoding_format` the client asks for base64 and decodes it.
reply = client.embeddings.create(model=model.id, input=SENTENCES, user="test")
vectors = [item.embedding for item in reply.data]
assert [item.index for item in reply.data] == [0, 1, 2, 3] and all(len(vector) == 384 for vector in vectors)
assert reply.usage.prompt_tokens == reply.usage.total_tokens > 20, reply.usage
check(vectors, 0.002)

floats = client.embeddings.create(model=model.id, input=SENTENCES, encoding_format="float")
for item, vector in zip(floats.data, vectors):
    assert max(abs(a - b) for a, b in zip(item.embedding, vector)) < 1e-6

(alone,) = client.embeddings.create(model=model.id, input=SENTENCES[2]).data
assert cosine(alone.embedding, vectors[2]) > 0.9999

short = client.embeddings.create(model=model.id, input=SENTENCES, dimensions=64)
for item, vector in zip(short.data, vectors):
    assert len(item.embedding) == 64 and abs(cosine(item.embedding, item.embedding) - 1) < 1e-5
    # The same direction, cut off.
    ratio = [a / b for a, b in zip(item.embedding, vector) if abs(b) > 0.01]
    assert max(ratio) - min(ratio) < 1e-3 * max(ratio), (min(ratio), max(ratio))

for wrong, expected in [
    (dict(model="another", input="a"), openai.NotFoundError),
    (dict(model=model.id, input=""), openai.BadRequestError),
    (dict(model=model.id, input=["a"] * 2049), openai.BadRequestError),
    (dict(model=model.id, input="a", dimensions=385), openai.BadRequestError),
    (dict(model=model.id, input="word " * 1000), openai.BadRequestError),
]:
    try:
        client.embeddings.create(**wrong)
    except expected as error:
        assert error.body["message"], error
    else:
        raise AssertionError(f"{str(wrong)[:80]} was accepted")

try:
    client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": "Hi"}])
except openai.BadRequestError as error:
    assert "/v1/embeddings" in error.body["message"], error
else:
    raise AssertionError("an embedding model answered a chat")
