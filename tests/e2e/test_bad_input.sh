#!/bin/bash
# test_bad_input.sh — errors in files, keys or ranks give one clear line, an exit code and no hang, and no
# existing file is lost.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
LIMIT=120
D=$T/deck.cfg
prepare && deck "$D" && ranks 1 train "$D" > "$T/log" || exit 1
"$PY" tests/e2e/spoil.py "$T/train.h5" "$T/run/last.h5" "$T/bad" || exit 1
"$PY" -m mdlm_data.prepare "$T/text" --tokenizer bpe:280 --length 32 --quiet --out "$T/bad/data_vocab.h5" &&
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 16 --quiet --out "$T/bad/data_rows16.h5" &&
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 31 --quiet --out "$T/bad/data_odd.h5" &&
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 32 --no-wrap --quiet \
    --out "$T/bad/data_unwrapped.h5" || exit 1

RANKS="1 2" KEEP=$T/run LOOSE=()
go_on=(train "$D" train.steps=9) # would resume the run if there were no error
B=$T/bad

# ---- command line and deck
printf 'train: {\n  steps = 9;\n  lerning_rate = 1;\n};\n' > "$T/typo.cfg"
printf 'train: {\n  steps = 9\n  lr = ;\n};\n' > "$T/syntax.cfg"
RANKS=1
bad "a file that is named twice" 'train.h5 and .*train.h5 hold the same rows .*: name one of them' \
  train "$D" run.dir="$T/new" data.train="$T/train.h5, $T/train.h5"
cp "$T/valid.h5" "$T/bad/copy.h5"
bad "rows that are evaluated twice" 'valid.h5 and .*copy.h5 hold the same rows' eval "$D" run.dir="$T/run" eval.data="$T/valid.h5,$T/bad/copy.h5"
bad "a misspelt command" 'trian.*did you mean train' trian "$D"
bad "no deck" 'usage: mdlm train DECK' train
bad "the deck is missing" "$T/none.cfg: No such file" train "$T/none.cfg"
bad "the deck is a directory" "$T" train "$T"
bad "the deck is not text" 'last.h5' train "$T/run/last.h5"
bad "an unknown key in the deck" "typo.cfg:3: unknown key train.lerning_rate; did you mean train.lr" train "$T/typo.cfg"
bad "a syntax error" 'syntax.cfg:[23]: ' train "$T/syntax.cfg"
printf '@include "%s"\n' "$D" /dev/zero > "$T/zero.cfg"
printf 'train: {\n lr = .;\n};\n' > "$T/point.cfg"
{ cat "$D" && echo '/* train: { lr = 1; };'; } > "$T/comment.cfg"
{ printf 'train: {' && printf ' k%s = 1;' {1..100000} && echo ' };'; } > "$T/large.cfg"
mkfifo "$T/pipe.cfg"
bad "a deck that includes a device" "zero.cfg:2: /dev/zero is not a deck: it is not a regular file" train "$T/zero.cfg"
bad "a deck that is a pipe" "pipe.cfg is not a deck: it is not a regular file" train "$T/pipe.cfg"
bad "a point for a number" 'point.cfg:2: a point needs a digit' train "$T/point.cfg"
bad "a comment without an end" 'comment.cfg:[0-9]*: the comment that begins here has no end' train "$T/comment.cfg"
bad "a deck that is too large" 'large.cfg.* too large: .*at most 1048576 bytes' train "$T/large.cfg"
bad "an unknown key" 'no.such=1: unknown key' "${go_on[@]}" no.such=1
bad "a value that is not a number" 'train.lr=[.] is not a value: it takes a real number' "${go_on[@]}" train.lr=.
bad "a misspelt key" 'did you mean train.micro_batch' "${go_on[@]}" train.mirco_batch=1
bad "not key=value" 'section.key=value' "${go_on[@]}" faster
bad "a value out of range" 'model.dropout=1.5 is out of range.*0 to 0.9' "${go_on[@]}" model.dropout=1.5
bad "a value of the wrong type" 'train.lr=fast has the wrong type' "${go_on[@]}" train.lr=fast
bad "a value that is not a choice" 'data.order=random.*permuted' "${go_on[@]}" data.order=random
bad "heads that do not divide the width" 'model.heads' train "$D" run.dir="$T/new" model.heads=3
bad "a cosine schedule with lr_min above lr" 'train.lr_min = 1, which must not be larger' \
  train "$D" run.dir="$T/new" train.lr_schedule=cosine train.lr_min=1
bad "an empty run.dir" 'run.dir' "${go_on[@]}" run.dir=
bad "an unknown key of help" 'unknown key.*did you mean train.steps' help train.stpes
bad "info on nothing" 'usage: mdlm info' info

# ---- values that are invalid together
parallel=(sample "$D" sample.sampler=parallel)
bad "a threshold of entropies" 'threshold compares scores with a probability.*use confidence or margin' "${parallel[@]}" \
  sample.commit=threshold sample.order=entropy
bad "a block longer than the sequence" 'block_length = 33: a sequence has only 32 tokens' "${parallel[@]}" sample.block_length=33
bad "a stop at what is never drawn" 'stop_at_eos waits for what sample.eos = never forbids' "${parallel[@]}" \
  sample.stop_at_eos=true sample.eos=never
bad "a stop of a sampler that does not" 'stop_at_eos is for sample.sampler = parallel .*: ancestral would not stop' sample "$D" \
  sample.stop_at_eos=true
bad "a stop in longer samples" 'set sample.num_strides to 0' "${parallel[@]}" sample.stop_at_eos=true sample.num_strides=1 \
  sample.stride_length=8
bad "f32 with a sampler that has none" 'sample.draw = f32 is not for sample.sampler = parallel; .* = subs it is for ancestral' \
  sample "$D" sample.sampler=parallel sample.draw=f32
bad "f32 with an objective that has none" 'f32 is not for sample.sampler = analytic; .* = sedd it is for no sampler: use' \
  train "$D" run.dir="$T/new" diffusion.objective=sedd sample.sampler=analytic sample.draw=f32 train.sample_every=1
bad "temperature 0 in f32" 'temperature = 0 takes the most likely token' sample "$D" sample.temperature=0 sample.draw=f32
bad "another objective in the middle of a run" 'last.h5 was trained with diffusion.objective = subs, the deck says sedd' \
  "${go_on[@]}" diffusion.objective=sedd
bad "another network in the middle of a run" 'last.h5 was trained with model.heads = 2, the deck says 4' \
  "${go_on[@]}" model.heads=4
bad "time conditioning in the middle of a run" 'time_conditioning = false, the deck says true' \
  "${go_on[@]}" model.time_conditioning=true
bad "mask_padding in the middle of a run" 'mask_padding = false, the deck says true' \
  eval "$D" model.mask_padding=true
bad "estimator count in discrete time" 'estimator = count needs an objective.*use eval.estimator = time' eval "$D" eval.estimator=count diffusion.T=9
new=(train "$D" run.dir="$T/new") ar=(diffusion.objective=ar model.name=ar)
bad "sedd with plain cross entropy" 'weight = one.*not the loss of diffusion.objective = sedd; it is for subs' \
  "${new[@]}" diffusion.objective=sedd diffusion.weight=one
bad "importance sampling and change of variables" 'choose one' "${new[@]}" diffusion.time=importance \
  diffusion.change_of_variables=true
bad "importance sampling in discrete time" 'diffusion.T = 9 must be 0' "${new[@]}" diffusion.T=9 diffusion.time=importance
bad "times of ar" 'time = normal: diffusion.objective = ar has no time to draw; it is for subs or sedd or uniform' "${new[@]}" "${ar[@]}" \
  diffusion.time=normal
bad "clip that leaves no time" 'clip_low = 0.9 .* is not below diffusion.clip_high = 0.8' "${new[@]}" diffusion.time=clip \
  diffusion.clip_low=0.9
bad "normal times outside of 0 to 1" 'time = normal: with these diffusion.normal_mean .* lies between diffusion.sampling_eps = 0.4' \
  "${new[@]}" diffusion.time=normal diffusion.normal_mean=0 diffusion.normal_width=0.05 diffusion.sampling_eps=0.4
bad "beta times below sampling_eps" 'time = beta: with these diffusion.beta_a and' "${new[@]}" diffusion.time=beta diffusion.beta_a=0.01 \
  diffusion.beta_b=100 diffusion.sampling_eps=0.5
bad "the former key of importance sampling" 'diffusion.importance_sampling is now diffusion.time = importance' "${new[@]}" \
  diffusion.importance_sampling=true
bad "d3pm in continuous time" 'd3pm.*set diffusion.T' "${new[@]}" diffusion.objective=d3pm
bad "d3pm with another schedule" 'schedule must be loglinear, not cosine' "${new[@]}" diffusion.objective=d3pm \
  diffusion.T=9 diffusion.schedule=cosine
bad "sedd in discrete time" 'sedd has no discrete time' "${new[@]}" diffusion.objective=sedd diffusion.T=9
bad "subs_masking with sedd" 'subs_masking is for diffusion.objective = d3pm' "${new[@]}" diffusion.objective=sedd \
  diffusion.subs_masking=true
bad "uniform noise without time conditioning" 'objective = uniform.*set model.time_conditioning to true' "${new[@]}" \
  diffusion.objective=uniform
bad "guidance without a prompt" 'guidance = 2 is the weight of a class or of a prompt' sample "$D" sample.guidance=2
bad "guidance of samples in training" 'samples during training have no guidance' "${new[@]}" train.sample_every=5 sample.guidance=2
bad "ends of a schedule in the wrong order" 'sigma_min = 8 is not below' "${new[@]}" diffusion.schedule=linear \
  diffusion.sigma_min=8
bad "ar on a bidirectional network" 'model.name = dit sees as input; use model.name = ar$' "${new[@]}" diffusion.objective=ar
bad "a diffusion objective on a causal network" 'model.name = ar sees only the left' "${new[@]}" model.name=ar
bad "ar with time conditioning" 'model.name = ar has no time conditioning' "${new[@]}" "${ar[@]}" model.time_conditioning=true
bad "ar in discrete time" 'ar has no discrete time' "${new[@]}" "${ar[@]}" diffusion.T=9
bad "gpt2 in training" 'gpt2.*cannot be trained' "${new[@]}" diffusion.objective=ar model.name=gpt2
bad "mask_padding of a causal network" 'mask_padding.*never sees' "${new[@]}" "${ar[@]}" model.mask_padding=true
bad "mask_padding of dimamba" 'mask_padding.*has no attention' "${new[@]}" model.name=dimamba model.mask_padding=true
bad "sampler ar with subs" 'sample.sampler = ar.*objective = subs.*use ancestral' sample "$D" sample.sampler=ar
for it in "sedd analytic diffusion.objective=sedd" "d3pm ancestral diffusion.objective=d3pm diffusion.T=9" "ar ar ${ar[*]}"; do
  read -r name suited words <<< "$it"
  read -ra keys <<< "$words"
  ranks 1 train "$D" run.dir="$T/$name" "${keys[@]}" > "$T/log" || exit 1
  bad "sampler event with $name" "sample.sampler = event.*use $suited" sample "$D" run.dir="$T/$name" sample.sampler=event "${keys[@]}"
  tap "the suggested sampler with $name" ranks 1 sample "$D" run.dir="$T/$name" sample.sampler="$suited" sample.steps=3 "${keys[@]}"
  bad "estimator count with $name" 'eval.estimator = count needs an objective.*use eval.estimator = time' \
    eval "$D" run.dir="$T/$name" eval.estimator=count "${keys[@]}"
  bad "$name evaluated as subs" "was trained with .*= $name" eval "$D" run.dir="$T/$name"
done
bad "d3pm evaluated with subs_masking" 'subs_masking = false, the deck says true' eval "$D" run.dir="$T/d3pm" \
  diffusion.objective=d3pm diffusion.T=9 diffusion.subs_masking=true
bad "ar on rows of one token" 'no token of the global batch is scored' "${new[@]}" "${ar[@]}" data.train="$B/data_ones.h5"
bad "ar on rows of one token, evaluation" 'data_ones.h5: no token is scored' eval "$D" run.dir="$T/ar" "${ar[@]}" \
  eval.data="$B/data_ones.h5"
RANKS=2
bad "d3pm in continuous time" 'd3pm.*set diffusion.T' "${new[@]}" diffusion.objective=d3pm
bad "ar on a bidirectional network" 'model.name = dit sees as input; use model.name = ar$' "${new[@]}" diffusion.objective=ar
bad "an unknown key" 'no.such=1: unknown key' "${go_on[@]}" no.such=1
bad "the deck is missing" "$T/none.cfg: No such file" train "$T/none.cfg"
bad "an unknown command" 'fly' fly

# ---- batch and ranks
RANKS=1 bad "micro-batches do not fill the batch" 'train.global_batch = 8.*micro_batch = 3' \
  "${go_on[@]}" train.micro_batch=3
RANKS=2 bad "ranks do not divide the batch" 'train.global_batch = 9.*2 ranks' \
  "${go_on[@]}" train.global_batch=9 train.micro_batch=1
RANKS=3 bad "ranks that do not divide the leaves" '24 micro-batches.* 8 leaves.*3 ranks.*set dist.tree_leaves = 24' \
  "${go_on[@]}" train.global_batch=24 train.micro_batch=1
RANKS=2 bad "fewer leaves than ranks" 'dist.tree_leaves = 1:.*set dist.tree_leaves = 2' "${go_on[@]}" dist.tree_leaves=1

# ---- a missing device
RANKS="1 2"
bad "an unknown device" 'device.name.*cpu' "${go_on[@]}" device.name=cud
if [ -n "$(nvidia-smi -L 2> /dev/null)" ]; then
  tap_skip "cuda without a GPU" "there is a GPU"
else # no GPU, or no library of the CUDA backend
  bad "cuda without a GPU" 'device.name = cuda: .*device.name = cpu' "${go_on[@]}" device.name=cuda
fi

# ---- data: errors found when a file is opened …
RANKS="1 2"
bad "data is missing" "$T/trian.h5: no such file; did you mean $T/train.h5" "${go_on[@]}" data.train="$T/trian.h5"
bad "data is cut short" 'data_half.h5' "${go_on[@]}" data.train="$B/data_half.h5"
RANKS=1
bad "data has no rows" 'data_norows.h5.*no sequence' "${go_on[@]}" data.train="$B/data_norows.h5"
bad "validation data of another vocabulary" 'data_vocab.h5' "${go_on[@]}" data.valid="$B/data_vocab.h5"
bad "no data is named" 'data.train is empty' "${go_on[@]}" data.train=
bad "a pattern without files" 'no-\*.h5' "${go_on[@]}" data.train="$T/no-*.h5"
bad "data is a directory" "$T/bad" "${go_on[@]}" data.train="$B"
bad "data is a device" '/dev/null' "${go_on[@]}" data.train=/dev/null
for f in data_head data_tail data_nolengths data_fewlengths data_flat data_float data_newer data_nodigest \
  empty text foreign; do
  bad "data: $f" "/$f.h5" "${go_on[@]}" data.train="$B/$f.h5"
done
bad "data is a checkpoint" 'last.h5 is not tokenized data' "${go_on[@]}" data.train="$T/run/last.h5"
bad "files of different vocabularies" 'train.h5.*data_vocab.h5' "${go_on[@]}" data.train="$T/train.h5,$B/data_vocab.h5"
bad "rows of different lengths" 'data_rows16.h5' "${go_on[@]}" data.valid="$B/data_rows16.h5"
bad "data.crop: validation rows as long as the training rows" 'train.h5 of 16 after data.crop' \
  train "$D" run.dir="$T/new" data.crop=true
bad "data.crop of an odd length" 'data.crop.*data_odd.h5 has rows of 31 tokens' \
  train "$D" run.dir="$T/new" data.crop=true data.train="$B/data_odd.h5"
bad "data.crop of padded rows" 'data.crop.*data_unwrapped.h5 has one document a row' \
  train "$D" run.dir="$T/new" data.crop=true data.train="$B/data_unwrapped.h5"
for f in data_flip data_changed data_token; do
  bad "check: $f" "$f.h5" check "$D" data.train="$B/$f.h5"
done

# … and while rows are read: the run may have written to its directory, but the checkpoints stay
LOOSE=(metrics.h5 deck.cfg) RANKS="1 2"
bad "a token id beyond the vocabulary" 'data_token.h5: row [0-9]+, position 5 holds token 300' \
  "${go_on[@]}" data.train="$B/data_token.h5"
RANKS=1
bad "a length beyond L" 'data_long.h5: row [0-9]+ has length 33' "${go_on[@]}" data.train="$B/data_long.h5"
bad "data with a flipped bit" 'data_flip.h5' "${go_on[@]}" data.train="$B/data_flip.h5"
bad "a length of 0" 'data_short.h5: row [0-9]+ has length 0' "${go_on[@]}" data.train="$B/data_short.h5"
bad "eval: a token id beyond the vocabulary" 'data_token.h5: row 0, position 5' eval "$D" eval.data="$B/data_token.h5"
bad "eval: data with a flipped bit" 'data_flip.h5' eval "$D" eval.data="$B/data_flip.h5"
LOOSE=()

# ---- checkpoints
RANKS="1 2"
bad "eval: the checkpoint is missing" 'none.h5: no such file' eval "$D" eval.checkpoint="$T/none.h5"
bad "eval: the checkpoint is cut short" 'ckpt_half.h5' eval "$D" eval.checkpoint="$B/ckpt_half.h5"
bad "eval: weights with NaN" 'ckpt_nan.h5.*nan' eval "$D" eval.checkpoint="$B/ckpt_nan.h5"
bad "train: a deck of another width" 'run/(last|previous).h5.*(model.width|\[)' "${go_on[@]}" model.width=64
RANKS=1
bad "eval: the checkpoint has a flipped bit" 'ckpt_flip.h5' eval "$D" eval.checkpoint="$B/ckpt_flip.h5"
bad "eval: a tensor of another shape" \
  'ckpt_shape.h5: /ema/vocab_embed.embedding is \[300,31\] in the file, \[300,32\]' \
  eval "$D" eval.checkpoint="$B/ckpt_shape.h5"
bad "eval: a deck of another width" 'last.h5 was trained with model.width = 32, the deck says 64' \
  eval "$D" model.width=64 eval.checkpoint="$T/run/last.h5"
bad "eval: data of another vocabulary" 'data_vocab.h5' eval "$D" eval.data="$B/data_vocab.h5"
bad "train: other data than the run's" 'last.h5 was trained on other data' "${go_on[@]}" data.train="$T/valid.h5"
bad "train: data of another vocabulary" 'last.h5.*data_vocab.h5' "${go_on[@]}" data.train="$B/data_vocab.h5" data.valid=
bad "train: another seed" 'last.h5 was trained with run.seed = 1' "${go_on[@]}" run.seed=2
bad "train: fewer steps than already done" 'last.h5 is at step 6, beyond train.steps = 4' "${go_on[@]}" train.steps=4
for f in ckpt_head ckpt_tail ckpt_missing ckpt_surplus ckpt_changed ckpt_newer ckpt_deck empty text foreign; do
  bad "eval: $f" "/$f.h5" eval "$D" eval.checkpoint="$B/$f.h5"
done
bad "eval: no run" 'run.dir = .*/nowhere holds no checkpoint' eval "$D" run.dir="$T/nowhere"
bad "eval: the checkpoint is data" 'train.h5 is not a checkpoint' eval "$D" eval.checkpoint="$T/train.h5"
bad "eval: the data is a checkpoint" 'last.h5 is not tokenized data' eval "$D" eval.data="$T/run/last.h5"
bad "eval: nowhere to write" 'none/eval.h5' eval "$D" eval.output="$T/none/eval.h5"
# … errors found before the work, which would take too long
long=(sample "$D" sample.steps=10000000 sample.count=1000 sample.sampler=ancestral)
RANKS="1 2"
tap "every rank exits with the code of the one that failed" exits 4 ranks 2 sample "$D" sample.output="$T/none/samples.h5"
bad "sample: nowhere to write" 'none/samples.h5' "${long[@]}" sample.output="$T/none/samples.h5"
bad "sample: an output that would overwrite a checkpoint" 'last.h5 exists and is not a mdlm-samples file' "${long[@]}" sample.output="$T/run/last.h5"
RANKS=1
mkfifo "$T/fifo" && ln -s "$T/none/samples.h5" "$T/astray" && echo 1 2 > "$T/run/prompt.txt" || exit 1
bad "sample: an output that would overwrite the deck" 'deck.cfg exists and is not a mdlm-samples file' "${long[@]}" sample.output="$T/run/deck.cfg"
bad "sample: an output that would overwrite the prompts" 'prompt.txt is both read and written' "${long[@]}" \
  sample.prompt="$T/run/prompt.txt" sample.output="$T/run/../run/prompt.txt"
bad "sample: into a directory" 'cannot write .*: it is a directory' "${long[@]}" sample.output="$T/run"
bad "sample: into a pipe" 'cannot write .*/fifo: it is not a regular file' "${long[@]}" sample.output="$T/fifo"
tap "sample: the pipe is left as it was" [ -p "$T/fifo" ]
bad "sample: into a device" 'cannot write /dev/full: it is not a regular file' "${long[@]}" sample.output=/dev/full
bad "sample: a link to nowhere" 'cannot write .*/astray, a link: No such file' "${long[@]}" sample.output="$T/astray"
bad "sample: an output path that is too long" 'the path has [0-9]+ bytes' "${long[@]}" sample.output="$T/$(printf 'x%.0s' {1..600})"
bad "sample: a checkpoint path that is too long" 'the path has [0-9]+ bytes' \
  sample "$D" sample.checkpoint="$T/$(printf 'x%.0s' {1..600})"
bad "eval: an output that would overwrite the checkpoint" 'last.h5 exists and is not a mdlm-eval file' \
  eval "$D" eval.checkpoint="$T/run/last.h5" eval.output="$T/run/last.h5"
rm "$T/run/prompt.txt"
full_stdout() {
  local code=0
  ranks 1 sample "$D" sample.steps=2 sample.count=1 sample.output="$T/kept.h5" > /dev/full 2> "$T/err" || code=$?
  cat "$T/err"
  [ "$code" = 4 ] && grep -q '^mdlm: error.*standard output; they are in .*kept.h5' "$T/err" && ranks 1 info "$T/kept.h5"
}
tap "sample: standard output is full" full_stdout
bad "sample: a tensor of another shape" 'ckpt_shape.h5' sample "$D" sample.checkpoint="$B/ckpt_shape.h5"
bad "sample: weights with NaN" 'ckpt_nan.h5' sample "$D" sample.checkpoint="$B/ckpt_nan.h5"

# ---- prompts and strides
"$PY" -c 'import sys, h5py; h5py.File(sys.argv[1], "w")[sys.argv[2]] = [[1] * 33]' "$T/long.h5" tokens &&
  "$PY" -c 'import sys, h5py; h5py.File(sys.argv[1], "w")[sys.argv[2]] = [[1] * 33]' "$T/ids.h5" ids || exit 1
# bad_prompt TITLE PATTERN FILE LINES ARGUMENT…: test mdlm sample with LINES as the file of prompts
bad_prompt() {
  printf '%s\n' "$4" > "$T/$3"
  bad "$1" "$2" sample "$D" sample.prompt="$T/$3" "${@:5}"
}
RANKS="1 2"
bad_prompt "sample: a prompt longer than the samples" 'long.txt: line 2 has 33 tokens, more than the 32.*num_strides' \
  long.txt 1$'\n'"$(printf '_ %.0s' {1..33})"
bad "sample: strides that do not fit" 'sample.stride_length = 32 must lie between 1 and 31' \
  sample "$D" sample.num_strides=3 sample.stride_length=32
RANKS=1
{
  bad "sample: strides of length 0" 'sample.stride_length = 0 must lie' sample "$D" sample.num_strides=1
  bad_prompt "sample: a prompt longer than samples with strides" 'long.txt: line 1 has 35 tokens, more than the 34' \
    long.txt "$(printf '_ %.0s' {1..35})" sample.num_strides=2 sample.stride_length=1
  bad_prompt "sample: the mask token in a prompt" 'mask.txt: line 1, token 2: 299 is the mask token.*_' mask.txt "1 2 299"
  bad_prompt "sample: a token that is not in the vocabulary" 'high.txt: line 2, token 0: 300.*0 to 299' high.txt 1$'\n'300
  bad_prompt "sample: a negative token" 'negative.txt: line 1, token 1: -1' negative.txt "1 -1"
  bad_prompt "sample: words in place of tokens" 'words.txt: line 1, token 0: .light' words.txt "light and"
  bad "sample: prompts are missing" 'none.txt: no such file' sample "$D" sample.prompt="$T/none.txt"
  bad "sample: prompts of another vocabulary" 'data_vocab.h5.*another vocabulary' \
    sample "$D" sample.prompt="$B/data_vocab.h5"
  bad "sample: prompts with an id beyond the vocabulary" 'data_token.h5: row [0-9]+, position 5 holds 300' \
    sample "$D" sample.prompt="$B/data_token.h5"
  bad "sample: prompts of longer rows" 'long.h5: row 0.*33 tokens.*num_strides' \
    sample "$D" sample.prompt="$T/long.h5"
  bad "sample: prompts without tokens" 'ids.h5: no data set /tokens' sample "$D" sample.prompt="$T/ids.h5"
  bad "sample: prompts are damaged" 'data_half.h5' sample "$D" sample.prompt="$B/data_half.h5"
}
bad "info: a flipped bit" 'ckpt_flip.h5.*damaged' info "$B/ckpt_flip.h5"
bad "info: a foreign HDF5 file" 'foreign.h5' info "$B/foreign.h5"

# A flipped bit is either found or lies in an unused byte; then the output is the same as before.
harmless_or_found() { # KIND FILE
  local code=0 good
  good=$([ "$1" = data ] && echo "$T/train.h5" || echo "$T/run/last.h5")
  timeout "$LIMIT" "$MDLM" info "$2" > "$T/out" 2> "$T/err" || code=$?
  if [ "$code" = 0 ]; then
    "$MDLM" info "$good" | diff - <(sed "s|$2|$good|" "$T/out")
  else
    one_line "$T/err" "$(basename "$2")" 1 && [ "$code" -lt 124 ]
  fi
}
for kind in data ckpt; do
  for f in "$B"/flips/"$kind"_*.h5; do tap "info: a bit flipped in ${f##*/}" harmless_or_found $kind "$f"; done
done

# ---- the run directory
RANKS="1 2"
bad "run.dir below a file" 'run.dir = .*/deck.cfg/run' "${go_on[@]}" run.dir="$D/run"

# Root may read and write everything, so these cases run without that capability.
as_user=()
[ "$(id -u)" = 0 ] && as_user=(setpriv "--bounding-set=-dac_override,-dac_read_search")
forbidden() { # make a copy of the run without write permission, and data without read permission
  [ ${#as_user[@]} = 0 ] || "${as_user[@]}" true || return 1
  cp -r "$T/run" "$T/forbidden" && cp "$T/train.h5" "$T/secret.h5" && rm "$T/forbidden/lock" &&
    chmod 555 "$T/forbidden" && chmod 0 "$T/secret.h5" && ! "${as_user[@]}" cat "$T/secret.h5"
}
if forbidden > /dev/null 2>&1; then
  mdlm_alone=$MDLM
  printf '#!/bin/sh\nexec %s %s "$@"\n' "${as_user[*]}" "$MDLM" > "$T/mdlm" && chmod +x "$T/mdlm" && MDLM=$T/mdlm
  KEEP=$T/forbidden bad "run.dir without write permission" 'run.dir = .*forbidden.*ermission denied' \
    "${go_on[@]}" run.dir="$T/forbidden"
  KEEP=$T/forbidden RANKS=1 bad "eval: run.dir without write permission" 'eval.h5.*ermission denied' eval "$D" run.dir="$T/forbidden"
  bad "data without read permission" 'secret.h5.*ermission denied' "${go_on[@]}" data.train="$T/secret.h5"
  MDLM=$mdlm_alone
else
  tap_skip "files without permission" "this user can read files without read permission"
fi

# A second job in the same directory is refused while the first runs; eval is allowed.
busy() {
  start "$T/first.log" 1 train "$D" run.dir="$T/busy" train.steps=100000 train.save_every=5
  first=$!
  wait_for "$LIMIT" test -e "$T/busy/last.h5"
}
tap "a job runs" busy
KEEP=$T/bad bad "a second job in the same directory" \
  "run.dir = .*/busy is in use by another job \(host .*, process $first\)" \
  "${go_on[@]}" run.dir="$T/busy"
tap "eval while the job runs" ranks 1 eval "$D" run.dir="$T/busy" eval.output="$T/eval.h5"
kill -TERM "$first"
tap "the first job was not disturbed" exits 75 ended "$first"
tap "the first job's checkpoint is valid" "$MDLM" info "$T/busy/last.h5"

# ---- the loss becomes NaN: a much too large learning rate makes the weights diverge
LOOSE=(metrics.h5 deck.cfg) RANKS="1 2"
bad "the loss becomes NaN" 'step [0-9]+: the (loss is .*nan on rank [0-9]|gradient.s norm is)' \
  "${go_on[@]}" train.steps=60 train.lr=1000 train.clip=0 train.save_every=0 train.weight_decay=10
LOOSE=()
still_there() { "$MDLM" info "$T/run/last.h5" | grep "at step 6,"; }
tap "the last checkpoint still is that of step 6" still_there

finish
