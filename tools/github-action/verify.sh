#!/usr/bin/env bash
# Verify every bundle in BUNDLES (a path or a pattern a line), on DATA where that is given. Each
# gets its reports in REPORTS, whatever the others came to; the largest exit code is the answer.
set -euo pipefail

mkdir -p "$REPORTS"
rm -f -- "$REPORTS"/[0-9][0-9][0-9]-*.xml "$REPORTS"/[0-9][0-9][0-9]-*.md  # of an earlier run
worst=0 count=0
while IFS= read -r pattern; do
    [ -n "${pattern//[[:space:]]/}" ] || continue
    # compgen expands a pattern and nothing else: neither words nor commands.
    mapfile -t found < <({ compgen -G "$pattern" || printf '%s\n' "$pattern"; } | sort)
    for bundle in "${found[@]}"; do
        count=$((count + 1))
        name=$(printf '%03d-%s' "$count" "$(basename -- "$bundle")")
        options=(--junit "$REPORTS/$name.xml" --markdown "$REPORTS/$name.md")
        [ -z "${DATA:-}" ] || options+=(--data "$DATA")
        code=0
        tcn-verify "${options[@]}" -- "$bundle" || code=$?
        [ "$code" -le "$worst" ] || worst=$code
    done
done <<<"$BUNDLES"
if [ "$count" -eq 0 ]; then
    echo "::error title=tcn-verify::no bundle was given: name one a line in 'bundles'"
    worst=2
fi
find "$REPORTS" -name '[0-9][0-9][0-9]-*.md' | sort | xargs -r -d '\n' cat >"$REPORTS/parity.md"
{
    echo "junit=$REPORTS"
    echo "markdown=$REPORTS/parity.md"
    echo "exit-code=$worst"
} >>"$GITHUB_OUTPUT"
exit "$worst"
