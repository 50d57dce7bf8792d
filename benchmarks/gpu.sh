#!/usr/bin/env bash
# All that only a GPU can show, in at most eight minutes: benchmarks/gpu.sh [WHEELS] [OUT] [options of benchmarks/gpu.py]
#
# For a bare machine: Python with torch, transformers and numpy, and no package index. WHEELS is a folder of wheels for
# the rest; of these only what the machine does not have is unpacked, into a temporary folder. Ray, MLflow, Optuna and
# datasets are not needed: what runs here imports none of them. OUT (by default runs/gpu) gets gpu.json, which holds the
# result of each part as soon as it is there, and gpu.log. Without a GPU the same runs at toy size, which tries the
# script and says nothing of GPUs. It reads and changes none of the card's settings.
#
# The wheels are fetched where there is an index, for the Python of the bare machine (54 MB, 50 of them pyarrow, which
# chains read encoded data with):
#
#   python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#     --platform manylinux2014_x86_64 -c constraints.txt -d wheels pydantic pydantic-core annotated-types \
#     typing-inspection ruamel-yaml rich markdown-it-py mdurl pygments pyarrow accelerate psutil pytest iniconfig pluggy
#
# An image that has pyarrow, accelerate and pytest already needs but the first five, and rich with its three: 5 MB.
set -euo pipefail
wheels=${1:-}
out=${2:-runs/gpu}
shift $(($# < 2 ? $# : 2))
mkdir -p "$out"
out=$(cd "$out" && pwd)
if [ -n "$wheels" ]; then wheels=$(cd "$wheels" && pwd); fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

if [ -n "$wheels" ]; then
  # What the image has is left alone: a second pandas or numpy beside its own would help nobody.
  missing=$("$python" - "$wheels" <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    try:
        version(wheel.name.split("-")[0])
    except PackageNotFoundError:
        print(wheel)
PYTHON
  )
  if [ -n "$missing" ]; then
    xargs -d '\n' "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" <<<"$missing"
  fi
fi
# Records name the version of the program: a checkout that is not installed has no metadata.
metadata=$site/xling_sweep-checkout.dist-info
mkdir "$metadata"
"$python" -c 'import sweep; print(f"Metadata-Version: 2.1\nName: xling-sweep\nVersion: {sweep.__version__}")' >"$metadata/METADATA"

export PYTHONPATH="$site:$PWD:$PWD/tests:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
"$python" benchmarks/gpu.py --out "$out" "$@"
