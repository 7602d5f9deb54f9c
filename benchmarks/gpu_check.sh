#!/usr/bin/env bash
# Everything that only a GPU can say about the rasterizer, in one go:
#   benchmarks/gpu_check.sh [folder for the results, default gpu_check]
# Builds for the GPU present, runs the tests marked gpu, both benchmarks (JSON), and, where it is
# installed, compute-sanitizer on those of small scenes. Ends within 8 minutes: every step has a time limit, and
# what the whole has no time left for is named as failed. A step that fails doesn't keep the others from
# running. PYTHON names the interpreter; with gsplat installed in it (and built: its first call takes
# minutes) the rasterizer's benchmark compares with it.
set -uo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
out="${1:-gpu_check}"
tests=submodules/pose_rasterizer/tests
mkdir -p "$out"
export PYTHONPATH="submodules/pose_rasterizer:.${PYTHONPATH:+:$PYTHONPATH}"
failed=()
total=465  # seconds

# step NAME SECONDS COMMAND...: its output goes to NAME.log, its last lines to the screen.
step() {
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    ((limit > total - SECONDS)) && limit=$((total - SECONDS))
    echo "== $name"
    if ((limit < 5)); then
        failed+=("$name (no time left)")
        return
    fi
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 || failed+=("$name")
    tail -n 6 "$out/$name.log"
    echo "   $((SECONDS - began)) s"
}

"$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' || {
    echo "error: torch sees no CUDA device" >&2
    exit 2
}
{ nvidia-smi -L; git rev-parse HEAD; "$python" -c 'import torch; print(torch.__version__)'; } \
    >"$out/machine.txt" 2>/dev/null

# one library per number of channels that the tests and benchmarks need, side by side
build_all() {
    local jobs=() status=0 channels
    "$python" -m pose_rasterizer.build --channels 3 || return 1
    for channels in 1 2 5 6 8; do
        "$python" -m pose_rasterizer.build --channels "$channels" & jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || status=1; done
    return $status
}
export -f build_all
export python

step build 150 bash -c build_all
step parity 100 "$python" -m pytest -m gpu "$tests/test_cuda.py" "$tests/test_cuda_normal.py"
step normal_equations 60 "$python" -m benchmarks.normal_equations --device cuda \
    --json "$out/normal_equations.json"
step rasterizer 150 "$python" benchmarks/rasterizer.py --json "$out/rasterizer.json"
step large 100 "$python" -m pytest -m gpu "$tests" --ignore "$tests/test_cuda.py" \
    --ignore "$tests/test_cuda_normal.py"
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        step "$tool" 130 compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m pytest -m gpu \
            "$tests/test_cuda.py" "$tests/test_cuda_normal.py"
    done
else
    echo "== compute-sanitizer isn't installed: left out"
fi

if ((${#failed[@]})); then
    echo "failed: ${failed[*]}; see $out"
    exit 1
fi
echo "all passed; results in $out"
