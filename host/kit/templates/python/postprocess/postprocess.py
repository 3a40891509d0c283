"""The filter: a resource of the interface `postprocess`, and componentize-py looks for it in a module of that name."""

from typing import Self

from wit_world.exports import postprocess
from wit_world.exports.postprocess import Channel, Chunk, Output, Profile
from wit_world.imports.types import Call, Finish, Usage

from masker import Masker

words: list[str] = []


class Filter(postprocess.Filter):
    """One for each answer."""

    def __init__(self):
        self.masker = Masker(words)

    @classmethod
    def open(cls, call: Call, choice: int) -> tuple[Self, Profile]:
        return cls(), Profile([Channel.CONTENT], min_bytes=0, max_delay_ms=0, max_holdback=256, want_tokens=False)

    def push(self, chunk: Chunk) -> Output:
        """`chunk.window` is all text that is not sent yet."""
        done, text = self.masker.mask(chunk.window, chunk.last)
        consumed = chunk.window[:done]
        # The host counts bytes of UTF-8. `None` sends what was consumed as it is, and copies nothing.
        return Output(len(consumed.encode()), None if text == consumed else text, None, [])

    def finish(self, end: Finish, usage: Usage) -> list[tuple[str, str]]:
        """Notes stand in the host's log, and in the reply."""
        return [("template-name", str(self.masker.masked))]
