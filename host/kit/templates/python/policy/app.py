"""Rejects requests that are longer than the operator likes."""

import json

from wit_world import exports
from wit_world.exports.lifecycle import Identity
from wit_world.exports.policy import Rejection, Verdict_Accept, Verdict_Reject
from wit_world.imports import config
from wit_world.imports.types import Call, Part_Text, Part_ToolResult, Request

from size import characters

most = 4096


class Lifecycle(exports.Lifecycle):
    def init(self) -> Identity:
        """The first call of every instance. The host has judged the configuration by the schema in plugin.toml."""
        global most
        most = json.loads(config.all()).get("max_characters", most)
        return Identity("template-name", "0.1.0")


class Policy(exports.Policy):
    def inspect(self, req: Request, call: Call):
        """Runs before anything is computed: a rejection costs no model time."""
        parts = (part for message in req.messages for part in message.parts)
        texts = (part.value if isinstance(part, Part_Text) else part.value.content for part in parts
                 if isinstance(part, Part_Text | Part_ToolResult))
        count = characters(texts)
        if count > most:
            message = f"The request has {count} characters of text, and {most} are allowed."
            return Verdict_Reject(Rejection(413, "request_too_long", message, retry_after_ms=None)), []
        # Notes stand in the host's log, and in the reply.
        return Verdict_Accept(), [("template-name", str(count))]
