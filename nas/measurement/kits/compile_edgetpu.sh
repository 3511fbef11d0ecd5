#!/bin/sh
# Compile every model of this folder for the Coral Edge TPU, into compiled/. Runs on x86-64 Linux.
#
#   sh compile_edgetpu.sh
#
# Requires edgetpu_compiler. Models that it rejects are listed at the end and left out; the next start
# tries only these again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/compiled"
rejected=
for model in "$here"/models/*.tflite; do
  name=$(basename "$model" .tflite)
  if [ -f "$here/compiled/${name}_edgetpu.tflite" ]; then
    continue
  fi
  edgetpu_compiler -s -o "$here/compiled" "$model" >"$here/compiled/$name.txt" 2>&1 || rejected="$rejected $name"
done
if [ -n "$rejected" ]; then
  printf 'rejected (see compiled/NAME.txt):%s\n' "$rejected"
fi
