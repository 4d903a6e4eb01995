#!/usr/bin/env bash
# Install tcn-export with the runtime EXTRA: VERSION from PyPI, or SOURCE, the action's checkout.
set -euo pipefail

what="$SOURCE[$EXTRA]"
[ -z "${VERSION:-}" ] || what="tcn-export[$EXTRA]==$VERSION"
python3 -m pip install --disable-pip-version-check "$what"
