#!/bin/sh
# Makes link_guard.wasm with the componentize-py of .venv.
cd "$(dirname "$0")" && exec .venv/bin/componentize-py --quiet -d wit -w link-guard componentize app --output link_guard.wasm
