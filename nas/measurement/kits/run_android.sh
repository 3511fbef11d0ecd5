#!/bin/sh
# Measure every model of this folder on an Android phone, and append its output to results.txt.
#
#   sh run_android.sh BENCHMARK_MODEL [CORE_MASK]
#
# BENCHMARK_MODEL: TensorFlow Lite's benchmark_model, built for Android on arm64.
# CORE_MASK: hexadecimal mask of the cores to run on, for taskset; 80 (the default) is the eighth core.
# Environment: THREADS (default 1), RUNS (1000), REPEATS (5), ANDROID_SERIAL (default: adb's choice).
# If the script is interrupted, start it again to measure the remaining models.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
binary=${1:?"usage: sh run_android.sh BENCHMARK_MODEL [CORE_MASK]"}
mask=${2:-80}
threads=${THREADS:-1}
runs=${RUNS:-1000}
repeats=${REPEATS:-5}
on_phone=/data/local/tmp/mnv4-nas
results=$here/results.txt

adb shell "mkdir -p $on_phone"
adb push "$binary" "$on_phone/benchmark_model" >/dev/null
adb shell "chmod +x $on_phone/benchmark_model"
{
  printf '# device: %s\n' "$(adb shell getprop ro.product.model | tr -d '\r')"
  printf '# threads: %s, core mask: %s, runs: %s, repeats: %s\n' "$threads" "$mask" "$runs" "$repeats"
} >>"$results"

for model in "$here"/models/*.tflite; do
  file=$(basename "$model")
  if grep -qxF "# end $file" "$results"; then
    continue
  fi
  printf '%s\n' "$file"
  adb push "$model" "$on_phone/$file" >/dev/null
  printf '# begin %s\n' "$file" >>"$results"
  failed=
  repeat=1
  while [ "$repeat" -le "$repeats" ]; do
    printf '# repeat %s\n' "$repeat" >>"$results"
    printed=$(adb shell "taskset $mask $on_phone/benchmark_model --graph=$on_phone/$file --num_threads=$threads \
      --use_xnnpack=true --warmup_runs=50 --num_runs=$runs --min_secs=0 --max_secs=600 2>&1" </dev/null | tr -d '\r')
    printf '%s\n' "$printed" >>"$results"
    case $printed in
      *"Inference (avg)"*) ;;
      *) failed=yes ;;
    esac
    repeat=$((repeat + 1))
  done
  adb shell "rm $on_phone/$file" </dev/null
  if [ -n "$failed" ]; then
    printf 'failed: %s; see the output of benchmark_model in %s\n' "$file" "$results" >&2
    continue
  fi
  printf '# end %s\n' "$file" >>"$results"
done
printf 'done: %s\n' "$results"
