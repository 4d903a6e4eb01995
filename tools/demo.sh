#!/usr/bin/env bash
# From real signals to verified bundles in one command: trains a small TCN on smartwatch data,
# exports it in float32 and int8, and verifies both.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh

export PATH="$PWD/.venv/bin:$PATH"
out=${1:-exported/demo}
mkdir -p "$out"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
do_() {
    say "\$ $*"
    "$@"
}

say "BasicMotions: a smartwatch's accelerometer and gyroscope, 10 Hz, 4 activities, 40 + 40 windows."
do_ tcn-train BasicMotions --arch tcn --head mean --levels 4 --epochs 20 --validation 0 --batch 8 \
    --out "$out/basic_motions.pt" --save-data "$out/basic_motions.npz" --overwrite
do_ tcn-export "$out/basic_motions.pt" --target onnx --data "$out/basic_motions.npz" \
    --out "$out" --overwrite
say "40 test windows cannot prove a small loss: even if int8 changes no answer, up to 7.2 points"
say "may be lost (95 % bound). So this demo allows 15 points; with your data keep the default, 1."
do_ tcn-export "$out/basic_motions.pt" --target onnx --precision int8 --max-drop 15 \
    --data "$out/basic_motions.npz" --out "$out" --overwrite
do_ tcn-verify "$out/basic_motions-onnx-float32" --data "$out/basic_motions.npz"
do_ tcn-verify "$out/basic_motions-onnx-int8" --data "$out/basic_motions.npz"
say "The bundles:"
ls -d "$out"/*-onnx-*
