#!/bin/sh
# Compiles every model of this folder for the Coral Edge TPU, into compiled/. Runs on an x86-64 Linux computer.
#
#   sh compile_edgetpu.sh
#
# Needs edgetpu_compiler. A model that it refuses is named at the end and left out; a second start tries only those.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/compiled"
refused=
for model in "$here"/models/*.tflite; do
  name=$(basename "$model" .tflite)
  if [ -f "$here/compiled/${name}_edgetpu.tflite" ]; then
    continue
  fi
  edgetpu_compiler -s -o "$here/compiled" "$model" >"$here/compiled/$name.txt" 2>&1 || refused="$refused $name"
done
if [ -n "$refused" ]; then
  printf 'refused (see compiled/NAME.txt):%s\n' "$refused"
fi
