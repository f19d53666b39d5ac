#!/bin/bash
# limit: 300
# test_install.sh — `make install`: the installed program, decks and Python commands work from another directory.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
PY=$(realpath -s "$PY")
prefix=$T/stage/usr share=$T/stage/usr/share/mdlm
export MDLM_PYTHON=$PY PATH=$prefix/bin:$PATH
text 60 > "$T/text"

install_it() { # -o all: do not rebuild
  local cuda=()
  [ -e "$(dirname "$MDLM")/libmdlm_cuda.so" ] || cuda=(CUDA=0)
  env -u MAKEFLAGS -u MAKELEVEL \
    make -s -o all install BUILD="$(dirname "$MDLM")" "${cuda[@]}" DESTDIR="$T/stage" PREFIX=/usr &&
    cmp "$MDLM" "$prefix/bin/mdlm"
}

decks() { # each deck finds the files that it includes, so that the error is the missing data
  local deck
  for deck in input/*.cfg input/smoke/*.cfg; do
    cmp "$deck" "$share/$deck" || return 1
    (cd / && "$prefix/bin/mdlm" train "$share/$deck" run.dir="$T/none" data.train="$T/none.h5" data.valid= 2>&1) |
      grep "$T/none.h5: no such file" || fail "$deck" || return 1
  done
}

run_through() {
  cd "$T" || return 1
  mdlm-prepare text --tokenizer bpe:280 --length 32 --valid-documents 9 --out-train train.h5 --out-valid valid.h5 &&
    mdlm --version && mdlm train deck.cfg &&
    echo 'so ____{3} it' > holes.txt && mdlm-prompt holes.txt --data train.h5 --out prompts.h5 &&
    mdlm sample deck.cfg sample.prompt=prompts.h5 sample.output=samples.h5 &&
    mdlm-retokenize samples.h5 --tokenizer text8 --out letters.h5 &&
    mdlm-convert export run/last.h5 weights.safetensors &&
    mdlm-plot run && [ -s run/metrics.png ]
}

from_installation() { # the launchers' PYTHONPATH takes precedence over the editable packages
  cd / && PYTHONPATH=$share/python "$PY" -c 'import mdlm_data, mdlm_analysis; print(mdlm_data.__file__, mdlm_analysis.__file__)' |
    grep -q "$share/python.*$share/python"
}

# missing COMMAND PACKAGE ARGUMENT…: whether the command prints one line that names the package, and no traceback
missing() {
  local command=$1 package=$2
  mkdir -p "$T/without-$package"
  echo "raise ModuleNotFoundError('No module named $package', name='$package')" > "$T/without-$package/$package.py"
  (cd "$T" && exits 2 env PYTHONPATH="$T/without-$package" "$command" "${@:3}" 2> "$T/err") || return 1
  cat "$T/err"
  grep -q "^$command: error: Python package '$package' is missing: run .make setup., or .* -m pip install $package$" "$T/err" &&
    [ "$(wc -l < "$T/err")" = 1 ]
}

deck "$T/deck.cfg"
tap "make install puts program and commands into place" install_it
tap "the installed decks can be read" decks
tap "prepare, train, sample, retokenize, convert and plot from another directory" run_through
tap "the commands use the installed packages" from_installation
tap "mdlm-prepare without h5py: one line" missing mdlm-prepare h5py text --tokenizer text8 --length 32 --out x.h5
tap "mdlm-plot without matplotlib: one line" missing mdlm-plot matplotlib run
finish
