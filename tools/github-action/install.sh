#!/usr/bin/env bash
# Install tcn-export with a runtime: PACKAGE for pip, or SOURCE, the action's own checkout.
set -euo pipefail

python3 -m pip install --disable-pip-version-check "${PACKAGE:-$SOURCE}[$EXTRA]"
