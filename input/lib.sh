# lib.sh — shared by demo.sh, smoke.sh and compare.sh: the programs, the settings of Open MPI, the corpus.
# shellcheck shell=bash disable=SC2034
#
# Environment: BUILD (folder of the program), PY (a Python with the packages of input/ and analysis/), RANKS (2), CORPUS
# (a text file; empty: the King James text of Debian's bible-kjv).
MDLM=${BUILD:-build}/mdlm
PY=${PY:-.venv/bin/python}
RANKS=${RANKS:-2}
CORPUS=${CORPUS:-}
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
if [ -n "$CORPUS" ] && [ ! -r "$CORPUS" ]; then
  echo "$(basename "$0" .sh): CORPUS=$CORPUS: no such file" >&2
  exit 2
fi

mdlm() {
  local launch=()
  [ "$RANKS" = 1 ] || launch=(mpirun -n "$RANKS")
  "${launch[@]}" "$MDLM" "$@"
}

# corpus_text DIR: set $text to the corpus file; the King James text is written to DIR
corpus_text() {
  text=$CORPUS
  [ -z "$CORPUS" ] || return 0
  text=$1/kjv.txt
  if [ ! -e "$text" ]; then
    bible -f 'Gen1:1-Rev22:21' | cut -d' ' -f2- > "$text.tmp"
    mv "$text.tmp" "$text"
  fi
}

# corpus_demo DIR NAME: make DIR/train.h5 and DIR/valid.h5 unless they exist; NAME is recorded as the source
corpus_demo() {
  mkdir -p "$1"
  if [ -e "$1/train.h5" ] && [ -e "$1/valid.h5" ]; then
    echo "$1 exists already"
    return 0
  fi
  corpus_text "$1"
  "$PY" -m mdlm_data.prepare "$text" --tokenizer bpe:512 --length 16 --wrap --valid-fraction 0.05 --source "$2" \
    --out-train "$1/train.h5" --out-valid "$1/valid.h5"
}
