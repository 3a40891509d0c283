"""Masks words that the operator does not want to read. The filter is in `postprocess.py`."""

import json

from wit_world import exports
from wit_world.exports.lifecycle import Identity
from wit_world.imports import config

import postprocess


class Lifecycle(exports.Lifecycle):
    def init(self) -> Identity:
        """The first call of every instance. The host has judged the configuration by the schema in plugin.toml."""
        postprocess.words = json.loads(config.all()).get("words", ["fudge"])
        return Identity("template-name", "0.1.0")
