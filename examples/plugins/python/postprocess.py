"""The filter: a resource of the interface `postprocess`, and componentize-py looks for it in a module of that name."""

from typing import Self

from wit_world.exports import postprocess
from wit_world.exports.postprocess import Channel, Chunk, Output, Profile
from wit_world.imports.types import Call, Finish, Usage

from guard import Guard

hosts: list[str] = []


class Filter(postprocess.Filter):
    def __init__(self):
        self.guard = Guard(hosts)

    @classmethod
    def open(cls, call: Call, choice: int) -> tuple[Self, Profile]:
        # Four bytes a character at most.
        return cls(), Profile([Channel.CONTENT, Channel.REASONING], min_bytes=0, max_delay_ms=0, max_holdback=4096, want_tokens=False)

    def push(self, chunk: Chunk) -> Output:
        done, text = self.guard.check(chunk.window, chunk.last)
        consumed = chunk.window[:done]
        # The host counts bytes of UTF-8. `None` sends what was consumed as it is, and copies nothing.
        return Output(len(consumed.encode()), None if text == consumed else text, None, [])

    def finish(self, end: Finish, usage: Usage) -> list[tuple[str, str]]:
        return []
