#!/usr/bin/env bash
# Checks the deployment files offline: the Kubernetes manifest against the API's schema, the unit against systemd.
# That their flags and keys are the binary's own is checked by the end-to-end tests (tests/tests/cli.rs).
set -euo pipefail
. "$(dirname "$0")/setup.sh"
cd "$root"

"$cache/venv/bin/kubernetes-validate" --strict deploy/kubernetes/*.yaml >/dev/null
setup_packages systemd
# systemd-analyze wants the binary that a unit names to exist, so a copy of the unit names one that does.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed 's|^ExecStart=/usr/local/bin/outrigger|ExecStart=/bin/true|' deploy/systemd/outrigger.service >"$work/outrigger.service"
systemd-analyze verify --man=no "$work/outrigger.service"
