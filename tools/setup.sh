#!/usr/bin/env bash
# Make .venv with everything that development needs, against the committed constraints.
# Runs again only when the constraints or the dependencies changed.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
stamp=.venv/.installed
wanted=$(cat pyproject.toml tools/constraints.txt | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "tcn-export needs Python 3.10 or newer; $("$python" --version) is too old." >&2
    echo "Name another one: PYTHON=python3.12 bash $0" >&2
    exit 1
}
echo "Installing into .venv (about a minute, a few GB of downloads the first time) ..." >&2
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint tools/constraints.txt --editable '.[all,dev]'
echo "$wanted" >"$stamp"
