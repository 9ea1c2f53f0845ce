#!/usr/bin/env bash
# Tests of the operations, of PNG files and of whole blocks on kernels built with the address and undefined-behaviour sanitizers: any access out of bounds ends them.
# Usage: scripts/sanitize_native.sh [avx512vnni|avx512|avx2|baseline]; needs g++ and its sanitizer libraries. Works on a copy.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(realpath -s "${PYTHON:-.venv/bin/python}")
SET=${1:-avx512vnni}
case "$SET" in
    avx512vnni) MARCH="-march=x86-64-v4 -mavx512vnni" ;;
    avx512) MARCH=-march=x86-64-v4 ;;
    avx2) MARCH=-march=x86-64-v3 ;;
    *) MARCH= ;;
esac
COPY=$(mktemp -d)
trap 'rm -rf "$COPY"' EXIT
cp -r mtlora tests benchmarks adapters docs "$COPY"
cd "$COPY"
SUFFIX=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
rm -f mtlora/kernels/*.so
g++ -O1 -g -w -std=gnu++17 -fPIC -shared $MARCH -fsanitize=address,undefined -fno-sanitize-recover=all \
    mtlora/kernels/src/kernels.cpp -o "mtlora/kernels/kernels_$SET$SUFFIX"
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 PYTHONPATH=$COPY MTLORA_NATIVE=$SET \
    "$PYTHON" -m pytest -q -p no:cacheprovider -rs -k "$SET or native" \
    tests/mtlora/ops/test_ops.py tests/mtlora/maps/test_png_writer.py tests/mtlora/inference/prepare/test_int8.py tests/mtlora/inference/backends/test_cpu.py
