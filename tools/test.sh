#!/usr/bin/env bash
# Everything that has to hold before a change lands: style, types, import directions, tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh

export PATH="$PWD/.venv/bin:$PATH"
ruff format --check --quiet .
ruff check --quiet .
lint-imports --no-logo
mypy
pytest --numprocesses auto --dist worksteal "$@"
