#!/bin/bash
# limit: 300
# test_install.sh — `make install`: the installed program, decks, Python commands and job scripts work from another
# directory.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
PY=$(realpath -s "$PY")
root=$PWD prefix=$T/usr share=$T/usr/share/mdlm
export MDLM_PYTHON=$PY PATH=$prefix/bin:$PATH
text 60 > "$T/text"

install_to() { # PREFIX [DESTDIR]; -o all: do not rebuild
  local cuda=()
  [ -e "$(dirname "$MDLM")/libmdlm_cuda.so" ] || cuda=(CUDA=0)
  env -u MAKEFLAGS -u MAKELEVEL make -s -C "$root" -o all install BUILD="$(dirname "$MDLM")" "${cuda[@]}" PREFIX="$1" DESTDIR="${2:-}"
}

install_it() {
  local it
  install_to "$prefix" && cmp "$MDLM" "$prefix/bin/mdlm" || return 1
  for it in README.md CHANGELOG LICENSE input/README.md analysis/README.md slurm/README.md; do
    cmp "$it" "$share/$it" || return 1
  done
  [ -s "$prefix/share/man/man1/mdlm.1" ]
}

staged() { # scripts name the final folders, not the stage
  local slurm=$T/stage/opt/mdlm/share/mdlm/slurm
  install_to /opt/mdlm "$T/stage" && grep ':-/opt/mdlm/share/mdlm}$' "$slurm/train.sbatch" &&
    grep '^PATH=.*:-/opt/mdlm/bin}' "$slurm/env.sh"
}

# A job script as Slurm runs it: a copy without its folder, in the directory of sbatch. The launcher is none. It trains,
# and ends with the program's exit code.
job_script() {
  mkdir -p "$T/spool" "$T/elsewhere" && cp "$share/slurm/train.sbatch" "$T/spool/slurm_script" && cd "$T/elsewhere" || return 1
  local job=(env -u BUILD -u MDLM_HOME PATH="${PATH#*:}" SLURM_SUBMIT_DIR="$PWD" SLURM_JOB_NAME=mdlm SLURM_JOB_ID=1
    SLURM_NTASKS=1 SLURM_JOB_NODELIST=here LAUNCH=env OMP_PROC_BIND=false)
  "${job[@]}" DECK="$T/deck.cfg" bash "$T/spool/slurm_script" run.dir=job && [ -s job/last.h5 ] &&
    exits 3 "${job[@]}" bash "$T/spool/slurm_script" > "$T/out" 2>&1 && cat "$T/out" &&
    grep "^train.sbatch: .* $share/input/lm1b_mdlm.cfg" "$T/out" && grep "^mdlm: error: data.train" "$T/out"
}

keeps_site() { # the settings of a site outlive a second installation
  echo "# ours" >> "$share/slurm/env.sh"
  install_to "$prefix" | grep "^$share/slurm/env.sh is kept; the new one is env.sh.new$" &&
    grep "^# ours$" "$share/slurm/env.sh" && grep -q "^PATH=" "$share/slurm/env.sh.new"
}

requirements() { # the file names each package that the installed modules import
  local it
  for it in h5py jinja2 matplotlib numpy tokenizers xxhash; do
    grep -E "^$it>=[0-9.]+$" "$share/python/requirements.txt" || fail "$it" || return 1
  done
  [ "$(wc -l < "$share/python/requirements.txt")" = 6 ]
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
    mdlm-plot run && [ -s run/metrics.png ] && mdlm-analysis report run && grep "</html>" run/report.html
}

from_installation() { # the launchers' PYTHONPATH takes precedence over the editable packages
  cd / && PYTHONPATH=$share/python "$PY" -c 'import mdlm_data, mdlm_analysis, mdlm_h5; print(mdlm_data.__file__, mdlm_analysis.__file__, mdlm_h5.__file__)' |
    grep -q "$share/python.*$share/python.*$share/python"
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
tap "make install puts program, commands, man page and READMEs into place" install_it
tap "with DESTDIR the scripts name the final folders" staged
tap "the installed decks can be read" decks
tap "prepare, train, sample, retokenize, convert, plot and report from another directory" run_through
tap "the commands use the installed packages" from_installation
tap "train.sbatch trains from another directory" job_script
tap "an edited env.sh is kept" keeps_site
tap "requirements.txt has the packages of the commands" requirements
tap "mdlm-prepare without h5py: one line" missing mdlm-prepare h5py text --tokenizer text8 --length 32 --out x.h5
tap "mdlm-prompt without h5py: one line" missing mdlm-prompt h5py holes.txt --data train.h5 --out x.h5
tap "mdlm-retokenize without h5py: one line" missing mdlm-retokenize h5py samples.h5 --tokenizer text8 --out x.h5
tap "mdlm-convert without h5py: one line" missing mdlm-convert h5py export run/last.h5 x.safetensors
tap "mdlm-plot without h5py: one line" missing mdlm-plot h5py run
tap "mdlm-plot without matplotlib: one line" missing mdlm-plot matplotlib run
finish
