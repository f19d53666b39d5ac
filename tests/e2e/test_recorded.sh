#!/bin/bash
# test_recorded.sh — what training records besides its losses: norms of every parameter (train.layers_every) and samples from
# fixed noise (train.sample_every).
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg KEEP=$T RANKS="1 2" LOOSE=(out err tap before lock)
prepare && deck "$D" || exit 1
TABLES=(weight_norm gradient_norm update_norm samples)
WATCH=(train.layers_every=2 train.sample_every=3)
train() { # NAME N WORDS…
  ranks "$2" train "$D" run.dir="$T/$1" train.global_batch=12 train.clip=0 "${@:3}" > "$T/$1.log" 2>&1 || { cat "$T/$1.log"; return 1; }
}
train plain 1 && train one 1 "${WATCH[@]}" train.keep_every=1 || exit 1

untouched() {
  same "$T/plain/last.h5" "$T/one/last.h5" params ema adam_m adam_v && "$PY" -c "import h5py, sys
a, b = map(h5py.File, sys.argv[1:])
assert set(a) == {'train', 'valid'} and set(b) - set(a) == set('${TABLES[*]} vocab'.split()), set(b)" "$T/plain/metrics.h5" "$T/one/metrics.h5"
}
tap "the weights do not change, and without the keys nor does metrics.h5" untouched
norms() { # beside those of the checkpoints of every step; the gradient is that of AdamW's first moment
  "$PY" - "$T/one" << 'PYTHON'
import sys, h5py, numpy as np
step = lambda t: h5py.File(f"{sys.argv[1]}/step-{t:07d}.h5")
f, norm = h5py.File(f"{sys.argv[1]}/metrics.h5"), lambda x: np.linalg.norm(x.astype("f8").ravel())
close = lambda a, b, bound: abs(a - b) <= bound * max(abs(b), 1e-12) or sys.exit(f"{a} is not {b}")
assert f["weight_norm/step"][()].tolist() == f["update_norm/step"][()].tolist() == [2, 4, 6]
for row, t in enumerate([2, 4, 6]):
    before, after = step(t - 1), step(t)
    for name in after["params"]:
        p, q, m, n = (g[name][()].astype("f8") for g in (before["params"], after["params"], before["adam_m"], after["adam_m"]))
        close(f["weight_norm"][name][row], norm(q), 1e-6)
        close(f["update_norm"][name][row], norm(q - p), 1e-5)
        close(f["gradient_norm"][name][row], norm((n - 0.9 * m) / 0.1), 1e-4)
    total = np.sqrt(sum(f["gradient_norm"][name][row] ** 2 for name in after["params"]))
    assert row == 0 or sum(f["update_norm"][n][row] > 0 for n in after["params"]) > 20
    close(total, f["train/grad_norm"][t - 1], 1e-9)
for group in "weight_norm", "gradient_norm", "update_norm":
    for d in f[group].values(): assert "unit" in d.attrs and d.attrs["description"]
PYTHON
}
tap "the norms are numpy's" norms
drawn() { # STEP: the samples are those of mdlm sample from the moving average of that step
  ranks 1 sample "$D" sample.count=4 sample.checkpoint="$T/one/step-000000$1.h5" sample.output="$T/samples.h5" > "$T/log" && "$PY" - "$T/one/metrics.h5" "$T/samples.h5" "$1" << 'PYTHON'
import sys, h5py, numpy as np
f, want = h5py.File(sys.argv[1])["samples"], h5py.File(sys.argv[2])["tokens"][()]
at = f["step"][()] == int(sys.argv[3])
assert at.sum() == want.size == 4 * 32 and np.array_equal(f["token"][at].reshape(4, 32), want)
assert np.array_equal(f["sample"][at].reshape(4, 32)[:, 5], range(4)) and np.array_equal(f["position"][at].reshape(4, 32)[2], range(32))
PYTHON
}
tap "samples are those that mdlm sample draws" drawn 3
tap "at a later step, too" drawn 6
other() { "$PY" -c "import h5py, numpy as np
f = h5py.File('$T/one/metrics.h5')['samples']
assert not np.array_equal(f['token'][:128], f['token'][128:])"; }
tap "which differ" other
told() { grep -c '^step 3  sample [0-3]: ..' "$T/one.log" | grep -x 4; }
tap "the log has a line for each" told
for n in 2 3; do
  tap "on $n ranks" train "ranks$n" $n "${WATCH[@]}"
  tap "the same bits as on 1" same "$T/ranks$n/metrics.h5" "$T/one/metrics.h5" "${TABLES[@]}"
  tap "on $n ranks that divide the optimizer's state" train "divided$n" $n "${WATCH[@]}" dist.shard_optimizer=true
  tap "the same bits as on 1" same "$T/divided$n/metrics.h5" "$T/one/metrics.h5" "${TABLES[@]}"
done
moved() { train moved 2 "${WATCH[@]}" train.steps=3 && train moved 1 "${WATCH[@]}" train.steps=5 && train moved 3 "${WATCH[@]}" &&
  same "$T/moved/metrics.h5" "$T/one/metrics.h5" "${TABLES[@]}" and "$T/moved/last.h5" "$T/one/last.h5" params ema; }
tap "a resumed run goes on with its records" moved

# ---- stopped while it samples
LONG=(train.sample_every=6 sample.steps=3000)
train whole 1 "${LONG[@]}" || exit 1
stopped() {
  start "$T/stop.log" 1 train "$D" run.dir="$T/stop" train.global_batch=12 train.clip=0 train.valid_every=100 data.valid= "${LONG[@]}"
  wait_for "$LIMIT" said "$T/stop.log" 'step 6/6' || fail "no last step" || return 1
  kill -TERM "$!"
  exits 75 ended "$!" && cat "$T/stop.log" && ! grep 'sample 0' "$T/stop.log" && "$PY" -c "import h5py
assert len(h5py.File('$T/stop/metrics.h5')['samples/step']) == 0"
}
tap "a signal ends it between two passes of the network" stopped
resumed() { train stop 1 data.valid= "${LONG[@]}" && cat "$T/stop.log" && same "$T/stop/metrics.h5" "$T/whole/metrics.h5" samples; }
tap "the resumed run draws the samples that were due" resumed

# ---- prompts, info, a table of another run
printf '5 6 _ 7\n\n' > "$T/holes"
prompt() {
  train prompt 1 train.sample_every=6 train.sample_count=3 sample.prompt="$T/holes" && "$PY" -c "import h5py
t = h5py.File('$T/prompt/metrics.h5')['samples/token'][()].reshape(3, 32)
assert t[0, [0, 1, 3]].tolist() == t[2, [0, 1, 3]].tolist() == [5, 6, 7] != t[1, [0, 1, 3]].tolist()"
}
tap "prompts are kept" prompt
ends() { # tokens of the text's own end, and of number 0, in the samples of a decoder that never ends a text
  train ends 1 train.steps=1 train.sample_every=1 train.sample_count=100 sample.sampler=parallel sample.eos=never sample.steps=8 &&
    "$PY" -c "import h5py
f = h5py.File('$T/ends/metrics.h5')
t = f['samples/token'][()]
assert (t == f['vocab'].attrs['eos']).sum() == 0 < (t == 0).sum()"
}
tap "the sampler knows which token ends a text" ends
causal() { # a network that predicts the next token: in training it has no cache
  train causal 1 train.steps=3 train.sample_every=3 model.name=ar diffusion.objective=ar sample.sampler=ar train.keep_every=3 &&
    ranks 1 sample "$D" model.name=ar diffusion.objective=ar sample.sampler=ar sample.count=4 sample.checkpoint="$T/causal/step-0000003.h5" \
      sample.output="$T/causal.h5" > "$T/log" && "$PY" -c "import h5py, numpy as np
got = h5py.File('$T/causal/metrics.h5')['samples/token'][()]
assert np.array_equal(got, h5py.File('$T/causal.h5')['tokens'][()].ravel())"
}
tap "samples from left to right" causal
forgets() { # a resumed run that records less
  train less 1 train.steps=3 "${WATCH[@]}" && train less 1 && cat "$T/less.log" && grep 'warning: .*metrics.h5 has /.* it is kept as' "$T/less.log" &&
    "$PY" -c "import h5py
assert len(h5py.File('$T/less/metrics-0000003.h5')['samples/step']) > 0"
}
tap "what a resumed run no longer records is kept" forgets
info() { "$MDLM" info "$T/one/metrics.h5" > "$T/out" && cat "$T/out" && grep -E '^  /gradient_norm +30 parameters, 3 values each; last [0-9.]+ over all$' "$T/out" &&
  grep -E '^  /samples/token +256 values' "$T/out" && grep whole "$T/out"; }
tap "info has a line for each table of norms" info
bad "a sampler that does not suit the objective" 'sample.sampler = ancestral.* diffusion.objective = ar' train "$D" run.dir="$T/no" model.name=ar diffusion.objective=ar train.sample_every=3
bad "the same in the pre-flight" 'sample.sampler = ancestral.* diffusion.objective = ar' check "$D" run.dir="$T/no" model.name=ar diffusion.objective=ar train.sample_every=3
bad "a prompt that is missing" 'nowhere: no such file' train "$D" run.dir="$T/no" train.sample_every=3 sample.prompt="$T/nowhere"
tap "no directory is made for them" test ! -e "$T/no"
finish
