"""Renders the fixtures with jinja2 in Hugging Face's settings: the reference that our renderer is held to.

    python tests/golden/generate.py            writes expected/
    python tests/golden/generate.py --check    fails where expected/ is not what jinja2 renders now

The environment is the one of transformers' `apply_chat_template` (utils/chat_template_utils.py): an immutable sandbox,
trim_blocks, lstrip_blocks, loop controls, `{% generation %}`, `tojson`, `raise_exception`, `strftime_now`. The clock
stands still. Where a template raises, the expected file ends in .error and holds the message.
"""

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import jinja2
import jinja2.nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).resolve().parent
# The tests of plugins/chat-template use the same second: Tuesday, 6 February 2024, 15:04:05 UTC.
NOW = datetime.fromtimestamp(1707231845, timezone.utc)


class Generation(Extension):
    """`{% generation %}`: what the model wrote. It renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.replace(tzinfo=None).strftime(format)
    return env


def render(source, conversation, tokens):
    variables = {name: text for name, text in tokens.items() if text}
    variables.update(conversation.get("kwargs", {}))
    return environment().from_string(source).render(
        messages=conversation["messages"],
        tools=conversation.get("tools"),
        documents=None,
        add_generation_prompt=conversation.get("add_generation_prompt", True),
        **variables,
    )


def expected():
    """Every file of expected/, with its text."""
    styles = json.loads((HERE / "styles.json").read_text(encoding="utf-8"))
    for name, style in styles.items():
        source = (HERE / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        for which in style["conversations"]:
            conversation = json.loads((HERE / "conversations" / f"{which}.json").read_text(encoding="utf-8"))
            tokens = {"bos_token": style["bos"], "eos_token": style["eos"]}
            try:
                yield f"{name}/{which}.txt", render(source, conversation, tokens)
            except jinja2.exceptions.TemplateError as error:
                yield f"{name}/{which}.error", error.message


def main():
    folder = HERE / "expected"
    files = dict(expected())
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if sys.argv[1:] == ["--check"]:
        wrong = [name for name, text in files.items()
                 if name not in there or (folder / name).read_bytes() != text.encode()]
        wrong += sorted(there - files.keys())
        if wrong:
            sys.exit(f"expected/ differs from what jinja2 {jinja2.__version__} renders: {', '.join(wrong)}; "
                     "run tests/golden/generate.py and look at the difference")
        print(f"{len(files)} renderings are as expected")
        return
    for name in there - files.keys():
        (folder / name).unlink()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    print(f"{len(files)} renderings written")


if __name__ == "__main__":
    main()
