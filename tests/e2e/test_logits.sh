#!/bin/bash
# test_logits.sh — mdlm logits: the networks' output for each objective, and what it refuses.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" || exit 1
M=$("$PY" -c 'import h5py, sys; print(h5py.File(sys.argv[1])["vocab"].attrs["mask"])' "$T/train.h5") || exit 1

# probe NAME OBJECTIVE [KEY=VALUE…]: train a few steps, run mdlm logits, check by the objective's formulas
probe() {
  local name=$1 objective=$2
  shift 2
  ranks 1 train "$D" run.dir="$T/$name" diffusion.objective="$objective" "$@" > "$T/log" || return 1
  ranks 1 logits "$D" run.dir="$T/$name" diffusion.objective="$objective" "$@" logits.input="$T/in.h5" \
    logits.log_p=true logits.batch=4 || return 1
  "$PY" tests/e2e/logits.py check "$T/in.h5" "$T/$name/logits.h5" "$M" "$objective" ${MASKING:+"$MASKING"}
}
"$PY" tests/e2e/logits.py make "$T/in.h5" 9 32 300 "$M" || exit 1
tap "subs" probe subs subs
tap "d3pm" probe d3pm d3pm diffusion.T=20 model.time_conditioning=true
MASKING=masking tap "d3pm with subs_masking" probe d3pm_masking d3pm diffusion.T=20 diffusion.subs_masking=true
tap "sedd" probe sedd sedd model.time_conditioning=true
tap "ar" probe ar ar model.name=ar
chain_rule() { # all real tokens but the first of each row are scored, and nothing is masked
  ranks 1 eval "$D" run.dir="$T/ar" model.name=ar diffusion.objective=ar eval.draws=3 > "$T/out" || return 1
  cat "$T/out"
  ranks 1 info "$T/ar/last.h5" | grep ' 0 masked tokens' || return 1
  grep "estimator exact$" "$T/out" && grep " tokens=$("$PY" -c 'import h5py, sys; l = h5py.File(sys.argv[1])["lengths"][()]
print(l.astype(int).sum() - l.size)' "$T/valid.h5") " "$T/out"
}
tap "ar scores all tokens but the first" chain_rule
tap "dimamba" probe dimamba subs model.name=dimamba
tap "blocks" probe blocks subs diffusion.block=8
past() { # a block sees the clean tokens before it, and none from its first one on
  edit 'x = f["x"]; x[:, 16:] = (x[:, 16:] + 1) % 299' &&
    ranks 1 logits "$D" run.dir="$T/blocks" diffusion.block=8 logits.input="$T/bad.h5" logits.output="$T/past.h5" &&
    "$PY" -c 'import h5py, sys; a, b = (h5py.File(x)["logits"][()] for x in sys.argv[1:])
assert (a[:, :24] == b[:, :24]).all() and (a[:, 24:] != b[:, 24:]).any(-1).all()' "$T/blocks/logits.h5" "$T/past.h5"
}
edit() { # CODE: copy in.h5 to bad.h5 and change it by the code
  cp "$T/in.h5" "$T/bad.h5" && "$PY" -c "import h5py, sys, numpy as np
with h5py.File(sys.argv[1], 'r+') as f:
    $1" "$T/bad.h5"
}
tap "a block sees the clean tokens before it" past

again() { # other batches give the same values
  ranks 1 logits "$D" run.dir="$T/subs" logits.input="$T/in.h5" logits.output="$T/one.h5" logits.batch=1 &&
    "$PY" -c 'import h5py, sys; a, b = (h5py.File(x)["logits"][()] for x in sys.argv[1:]); print(abs(a - b).max()); assert abs(a - b).max() < 1e-5' \
      "$T/one.h5" "$T/subs/logits.h5"
}
tap "one sequence at a time" again
tap "info describes the output" ranks 1 info "$T/subs/logits.h5"

# ---- refusals
refuses() { # CODE PATTERN ARGUMENT…
  exits "$1" ranks "${N:-1}" logits "$D" run.dir="$T/subs" "${@:3}" 2> "$T/err" || { cat "$T/err"; return 1; }
  cat "$T/err"
  [ "$(grep -c '^mdlm: error' "$T/err")" = 1 ] && grep -qE "$2" "$T/err"
}
tap "no input" refuses 2 'logits.input is empty'
edit 'f["z"][2, 3] = 300'
tap "a token beyond V" refuses 3 'bad.h5: z\[2,3\] = 300 is not a token' logits.input="$T/bad.h5"
edit 'f["t"][1] = 1.5'
tap "a time beyond 1" refuses 3 'bad.h5: t\[1\] = 1.5' logits.input="$T/bad.h5"
edit 'f["t"][1] = np.nan'
tap "a time that is NaN" refuses 3 'bad.h5: t\[1\] = ' logits.input="$T/bad.h5"
edit 'del f["t"]'
tap "no times" refuses 3 'bad.h5: no data set /t' logits.input="$T/bad.h5"
edit 'del f["t"]; f["t"] = np.zeros(3)'
tap "times of other rows" refuses 3 'bad.h5: /t must have the shape \[N\]' logits.input="$T/bad.h5"
edit 'z = f["z"][()]; del f["z"]; f["z"] = z.astype("f4")'
tap "tokens that are not integers" refuses 3 'bad.h5: /z must hold integers' logits.input="$T/bad.h5"
no_clean() { refuses 3 "$1" run.dir="$T/blocks" diffusion.block=8 logits.input="$T/bad.h5"; }
edit 'del f["x"]'
tap "blocks without clean tokens" no_clean 'bad.h5: no data set /x'
edit 'del f["x"]; f["x"] = np.zeros((9, 24), "i4")'
tap "clean tokens of other rows" no_clean 'bad.h5: /x must have the shape of /z'
edit 'f["x"][2, 3] = -1'
tap "a clean token beyond V" no_clean 'x\[2,3\] = -1 is not a token'
edit 'f["t"][4] = 0'
sedd_at_zero() { refuses 3 't\[4\] = 0 has no noise' run.dir="$T/sedd" diffusion.objective=sedd model.time_conditioning=true \
  logits.input="$T/bad.h5" logits.log_p=true; }
tap "the score at zero noise" sedd_at_zero
tap "an objective other than the checkpoint's" refuses 2 'was trained with diffusion.objective = subs' logits.input="$T/in.h5" \
  diffusion.objective=sedd
N=2 tap "two ranks" refuses 2 'works on one rank' logits.input="$T/in.h5"
finish
