#!/bin/bash
# lint_test.sh — ruff on all Python files, shellcheck on all shell scripts. Called by `make lint`; prints TAP.
# PY: the Python of the environment (.venv/bin/python).
set -u
cd "$(dirname "$0")/../.." || exit 1
PY=${PY:-.venv/bin/python}
config=input/pyproject.toml
number=0 failed=0

# lint NAME TOOL COMMAND…: one test; skipped if the shell command TOOL fails
lint() {
  local name=$1 tool=$2 output
  number=$((number + 1))
  if ! $tool > /dev/null 2>&1; then
    echo "ok $number - $name # SKIP ${tool% --version} is not installed"
  elif output=$("${@:3}" 2>&1); then
    echo "ok $number - $name"
  else
    failed=1
    echo "not ok $number - $name"
    printf '%s\n' "$output" | sed 's/^/# /'
  fi
}

mapfile -t python < <(find input analysis tests -name '*.py' | sort)
mapfile -t shell < <(find input slurm tests .ci -name '*.sh' -o -name '*.sbatch' -o -path .ci/run | sort)
echo 1..3
lint "ruff check" "$PY -m ruff --version" "$PY" -m ruff check --no-cache --config "$config" "${python[@]}"
lint "ruff format" "$PY -m ruff --version" "$PY" -m ruff format --no-cache --check --config "$config" "${python[@]}"
lint "shellcheck" "shellcheck --version" shellcheck "${shell[@]}"
exit $failed
