"""Link guard: links in answers lead only to the hosts that the operator names. The filter is in `postprocess.py`."""

import json

from wit_world import exports
from wit_world.exports.lifecycle import Identity
from wit_world.exports.policy import Verdict_Replace
from wit_world.imports import config
from wit_world.imports.types import Call, Message, Part_Text, Request, Role

import postprocess


class Lifecycle(exports.Lifecycle):
    def init(self) -> Identity:
        postprocess.hosts = json.loads(config.all()).get("hosts", [])
        return Identity("link-guard", "0.1.0")


class Policy(exports.Policy):
    # Needs `grants = { modify = ["messages"] }`.
    def inspect(self, req: Request, call: Call):
        places = ", ".join(postprocess.hosts) or "no page at all"
        line = Message(Role.SYSTEM, None, [Part_Text(f"Links may lead to: {places}.")])
        # Behind the application's own system lines: templates want those first.
        others = (place for place, message in enumerate(req.messages) if message.role != Role.SYSTEM)
        req.messages.insert(next(others, len(req.messages)), line)
        return Verdict_Replace(req), []
