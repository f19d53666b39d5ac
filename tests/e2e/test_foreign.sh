#!/bin/bash
# test_foreign.sh — HDF5 files of other programs, and damaged ones without a seal: no crash, no hang, no silent accept.
# LONG=1: thousands of files, under AddressSanitizer.
# limit: 1200
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg S=$T/good
mkdir "$S" && prepare && deck "$D" &&
  ranks 1 train "$D" train.steps=3 data.train="a=3:$T/train.h5; b=1:$T/valid.h5" > "$T/log" &&
  ranks 1 train "$D" run.dir="$T/judge" model.name=ar diffusion.objective=ar train.steps=3 > "$T/log" &&
  ranks 1 sample "$D" sample.steps=2 > "$T/log" && ranks 1 eval "$D" eval.draws=2 eval.sequences=20 > "$T/log" &&
  ranks 1 profile "$D" eval.draws=2 eval.sequences=20 > "$T/log" || exit 1
cat > "$T/sweep.cfg" << DECK
sweep: { checkpoints = "$T/run/last.h5"; data = "$T/valid.h5"; dir = "$T/sweep"; };
eval: { batch = 4; sequences = 8; draws = 2; };
device: { threads = 1; };
DECK
ranks 1 sweep "$T/sweep.cfg" > "$T/log" && "$PY" tests/e2e/logits.py make "$S/logits.h5" 6 32 300 299 length &&
  cp "$D" "$S/deck.cfg" && cp "$T/train.h5" "$S/data.h5" && cp "$T/run/last.h5" "$S/checkpoint.h5" &&
  cp "$T/judge/last.h5" "$S/judge.h5" && cp "$T/run/metrics.h5" "$T/run/samples.h5" "$T/run/eval.h5" "$T/run/profile.h5" "$S" &&
  cp -r "$T/sweep/sweep.h5" "$T/sweep.cfg" "$T/sweep/cells" "$S" &&
  "$PY" - "$S/prompts.h5" << 'PYTHON' || exit 1
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], "w", libver=("v108", "v108")) as f:
    f["tokens"] = np.arange(40, dtype="i4").reshape(5, 8)
    f["lengths"] = np.full(5, 6, "i4")
PYTHON
"$PY" - "$T/valid.h5" "$S/requests.h5" << 'PYTHON' || exit 1
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as d, h5py.File(sys.argv[2], "w", libver=("v108", "v108")) as f:
    f.attrs["format"], f.attrs["format_version"] = "mdlm-requests", 1
    f.attrs["tokenizer"], f.attrs["tokenizer_hash"] = d["vocab"].attrs["tokenizer"], d["vocab"].attrs["hash"]
    f["requests/tokens"] = np.arange(40, dtype="i4")
    f["requests/offset"] = np.arange(5, dtype="i8") * 8
    for name, value in dict(context_length=5, target_length=3, option_of=0, gold=1, bytes=4).items():
        f["requests/" + name] = np.full(5, value, "i8")
PYTHON

# ---- files that are good as they are
edit() { # COPY CODE: a copy of the data, changed by the code
  "$PY" -c "import h5py, sys, numpy as np
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2], 'w', libver=('v108', 'v108')) as f:
    [a.copy(k, f) for k in a], f.attrs.update(a.attrs)
    $2" "$S/data.h5" "$1"
}
comma() { cp "$S/data.h5" "$T/a,b.h5" && ranks 1 info "$T/a,b.h5" && ranks 1 check "$D" run.dir="$T/new" data.train="$T/a,b.h5"; }
tap "a data file with a comma in its name" comma
copied() { edit "$T/copied.h5" "" && ranks 1 info "$T/copied.h5"; }
tap "data copied by h5py, without a seal" copied
gzip() { edit "$T/gzip.h5" 't = f["tokens"][()]; del f["tokens"]; f.create_dataset("tokens", data=t, compression="gzip")' && ranks 1 info "$T/gzip.h5"; }
tap "data compressed with gzip" gzip

# ---- what the message says
says() { # NAME PATTERN CODE: data changed by the code
  edit "$T/$1.h5" "$3" && exits 3 ranks 1 info "$T/$1.h5" 2> "$T/err"
  one_line "$T/err" "$T/$1.h5.*$2" 1
}
again='t = f["tokens"][()]; del f["tokens"]; '
mkfifo "$T/pipe"
tap "a filter that is missing" says lzf 'needs the HDF5 filter lzf \(number 32000\)' "${again}f.create_dataset('tokens', data=t, compression='lzf')"
tap "rows that were never written" says unwritten '/tokens was never written' "${again}f.create_dataset('tokens', (2**40, 32), 'u2', chunks=(64, 32))"
tap "rows in another file" says raw 'values of /tokens are in other files' "${again}f.create_dataset('tokens', t.shape, 'u2', external=[('$T/pipe', 0, h5py.h5f.UNLIMITED)])"
tap "a link to another file" says link 'cannot open /tokens: .*link' "${again}f['tokens'] = h5py.ExternalLink('$T/pipe', 'tokens')"
tap "a link to itself" says loop 'cannot open /tokens: .*links' "${again}f['tokens'] = h5py.SoftLink('/tokens')"
tap "more values than there can be" says values 'claims to hold more than 2.48 values' "${again}f.create_dataset('tokens', (2**60, 32), 'u2', chunks=(64, 32))"

# a digest that is not that of the rows: whoever uses it, to tell data apart, notices
wrong='f.attrs["digest"] = "0" * 32'
edit "$T/digest.h5" "$wrong" || exit 1
not_its() { # N ARGUMENT…: on N ranks
  local n=$1
  exits 3 ranks "$n" "${@:2}" 2> "$T/err"
  one_line "$T/err" "$T/digest.h5 is damaged or was changed: its digest is 0{32}, that of its rows [1-9a-f]" "$n"
}
for n in 1 2; do
  tap "a digest of other rows: train, $n ranks" not_its $n train "$D" run.dir="$T/new" data.train="a=1:$T/train.h5; b=1:$T/digest.h5"
  tap "a digest of other rows: validation, $n ranks" not_its $n train "$D" run.dir="$T/new" data.valid="$T/digest.h5"
  tap "a digest of other rows: eval, $n ranks" not_its $n eval "$D" eval.data="$T/digest.h5"
  tap "a digest of other rows: sweep, $n ranks" not_its $n sweep "$T/sweep.cfg" sweep.data="$T/digest.h5" sweep.dir="$T/other"
done
large() {
  edit "$T/large.h5" "${again}d = f['lengths'][()]; del f['lengths']; $wrong; n = 2**25 // t.shape[1] + 1
    f.create_dataset('tokens', data=np.broadcast_to(t[0], (n, t.shape[1])), chunks=(8192, t.shape[1]), compression='gzip')
    f.create_dataset('lengths', data=np.full(n, d[0]), chunks=(8192,), compression='gzip')" &&
    ranks 2 train "$D" run.dir="$T/large" data.train="$T/large.h5" train.steps=1 > "$T/out" 2>&1 && cat "$T/out" &&
    [ "$(grep -c "warning: $T/large.h5 has no seal, and is too large" "$T/out")" = 1 ]
}
tap "a file without a seal that is too large for that: a warning" large

endless() { # the size of an object in the heap of strings wraps around
  "$PY" - "$S/data.h5" "$T/endless.h5" << 'PYTHON' || return 1
import sys, h5py
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2], "w", libver=("earliest", "v108")) as b:
    [a.copy(name, b) for name in a], [b.attrs.create(k, v) for k, v in a.attrs.items()]
raw = bytearray(open(sys.argv[2], "rb").read())
at = raw.find(b"GCOL")
assert at > 0
raw[at + 24 : at + 32] = b"\xf0" + 7 * b"\xff"
open(sys.argv[2], "wb").write(raw)
PYTHON
  (ulimit -t 5; exits 3 ranks 1 info "$T/endless.h5" 2> "$T/err") && one_line "$T/err" "$T/endless.h5.*(is damaged|cannot read)" 1
}
tap "a heap of strings in which HDF5 would not end" endless

stretched() {
  "$PY" -c "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); f.attrs['length'] = 100000" "$T/stretched.h5" || return 1
  exits 3 ranks 1 sample "$D" sample.checkpoint="$T/stretched.h5" sample.output="$T/no.h5" 2> "$T/err"
  one_line "$T/err" "$T/stretched.h5: attribute length of / is 100000, but .* had 3[0-9.]* tokens" 1
}
cp "$S/checkpoint.h5" "$T/stretched.h5" && tap "a length that is not that of the training sequences" stretched

# ---- many
if [ "${LONG:-}" = 1 ]; then
  export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0
  asan=$T/asan
  make -s -j2 CUDA=0 BUILD="$asan" SANITIZE=address,undefined CFLAGS="-O1 -g -fno-sanitize-recover=all" "$asan/mdlm" || exit 1
  tap "wrong items, through every reader" env EACH=1 "$PY" tests/e2e/foreign_run.py "$asan/mdlm" "$S" "$T/items" 1200 0
  tap "random damage" "$PY" tests/e2e/foreign_run.py "$asan/mdlm" "$S" "$T/random" 0 4400
else
  tap "wrong items and random damage" "$PY" tests/e2e/foreign_run.py "$MDLM" "$S" "$T/some" 50 20
fi
finish
