#include "store/loader.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Three slots: the caller holds one while the thread fills up to two ahead. */
enum { SLOTS = 3, BLOCK = 1024 };

typedef struct Slot {
  int32_t *tokens, *lengths, *labels, *sets;
  int64_t *rows;
} Slot;

struct Loader {
  LoaderOptions o;
  int64_t row, L, per_step; /* row: tokens stored; per_step: micro-batches of this rank in a step */
  Slot slots[SLOTS];
  pthread_t thread;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* under lock; micro-batches counted from the loader's first */
  int64_t filled, taken, released;
  bool stop;
  int error;
  char message[2048];
};

/* ---- order ---- */

/* Blocks of 1,024 consecutive rows in a keyed permutation, and the rows of each block in another. The short block at
 * the end of the data is inserted at a random place among the full blocks: no search is needed to map i to a block. */
static uint64_t blocked_row(uint64_t seed, uint64_t epoch, uint64_t N, uint64_t i) {
  uint64_t full = N / BLOCK, rest = N % BLOCK, block, place;
  uint64_t at = (uint64_t)(rng_uniform(rng_key(seed, RNG_ORDER, 1, epoch, 0), 0) * (double)(full + 1));
  if (i >= at * BLOCK && i < at * BLOCK + rest) {
    block = full;
    place = i - at * BLOCK;
  } else {
    uint64_t k = i < at * BLOCK ? i : i - rest;
    block = rng_permute(rng_key(seed, RNG_ORDER, 0, epoch, 0), full, k / BLOCK);
    place = k % BLOCK;
  }
  RngKey inside = rng_key(seed, RNG_ORDER, (uint32_t)(2 + block), epoch, 0);
  return block * BLOCK + rng_permute(inside, block == full ? rest : BLOCK, place);
}

int64_t loader_row(LoaderOrder order, uint64_t seed, int64_t N, int64_t j) {
  uint64_t epoch = (uint64_t)(j / N), i = (uint64_t)(j % N), n = (uint64_t)N;
  if (order == ORDER_SEQUENTIAL) return (int64_t)i;
  if (order == ORDER_BLOCKED) return (int64_t)blocked_row(seed, epoch, n, i);
  return (int64_t)rng_permute(rng_key(seed, RNG_ORDER, 0, epoch, 0), n, i);
}

int64_t loader_crop(uint64_t seed, int64_t step, int64_t k, int64_t L) {
  return (int64_t)(rng_uniform(rng_key(seed, RNG_CROP, 0, (uint64_t)step, (uint64_t)k), 0) * (double)L);
}

/* ---- the thread ---- */

/* Step, and place in the global batch, of this rank's micro-batch number m. */
static void place_of(const Loader *l, int64_t m, int64_t *step, int64_t *first) {
  *step = l->o.step + m / l->per_step;
  *first = l->o.first + m % l->per_step * l->o.micro_batch;
}

/* Crop the rows in place: each crop moves towards the front. */
static int slot_crop(const Loader *l, const Slot *slot, int64_t step, int64_t first) {
  for (int64_t i = 0; i < l->o.micro_batch; i++) {
    int32_t *crop = slot->tokens + i * l->L;
    CHECK(slot->lengths[i] == l->row, ERR_DATA,
          "%s: row %lld has %d tokens and padding to %lld: only rows without padding can be cropped",
          shards_spec(mixture_shards(l->o.data, slot->sets[i])), (long long)slot->rows[i], slot->lengths[i],
          (long long)l->row);
    memmove(crop, slot->tokens + i * l->row + loader_crop(l->o.seed, step, first + i, l->L),
            (size_t)l->L * sizeof *crop);
    crop[0] = l->o.bos;
    slot->lengths[i] = (int32_t)l->L;
  }
  return OK;
}

/* The set and row of sequence k of a step. */
static void slot_draw(const Loader *l, const Slot *slot, int64_t i, int64_t step, int64_t k) {
  const LoaderOptions *o = &l->o;
  int set;
  int64_t number;
  if (mixture_sets(o->data) > 1)
    k = (int64_t)rng_permute(rng_key(o->seed, RNG_PLACES, 0, (uint64_t)step, 0), (uint64_t)o->global_batch,
                             (uint64_t)k);
  mixture_draw(o->data, o->sequences + (step - o->step) * o->global_batch + k, &set, &number);
  slot->sets[i] = set;
  slot->rows[i] = loader_row(o->order, o->seed, shards_rows(mixture_shards(o->data, set)), number);
}

static int slot_fill(Loader *l, int64_t m) {
  const Slot *slot = &l->slots[m % SLOTS];
  int64_t step, first;
  place_of(l, m, &step, &first);
  for (int64_t i = 0; i < l->o.micro_batch; i++) slot_draw(l, slot, i, step, first + i);
  TRY(mixture_read(l->o.data, slot->sets, slot->rows, l->o.micro_batch, slot->tokens, slot->lengths));
  TRY(mixture_labels(l->o.data, slot->sets, slot->rows, l->o.micro_batch, slot->labels));
  return l->o.crop ? slot_crop(l, slot, step, first) : OK;
}

static void *loader_run(void *arg) {
  Loader *l = arg;
  pthread_mutex_lock(&l->lock);
  while (!l->stop && l->error == OK) {
    if (l->filled - l->released >= SLOTS) {
      pthread_cond_wait(&l->changed, &l->lock);
      continue;
    }
    pthread_mutex_unlock(&l->lock);
    int err = slot_fill(l, l->filled); /* no lock: only this thread changes filled */
    pthread_mutex_lock(&l->lock);
    if (err == OK)
      l->filled++;
    else
      snprintf(l->message, sizeof l->message, "%s", err_message()); /* err_message is thread-local */
    l->error = err;
    pthread_cond_broadcast(&l->changed);
  }
  pthread_mutex_unlock(&l->lock);
  return NULL;
}

/* ---- the caller ---- */

static int options_check(const LoaderOptions *o) {
  CHECK(o->global_batch > 0 && o->first >= 0 && o->count > 0 && o->first + o->count <= o->global_batch &&
            o->step >= 0 && o->sequences >= 0,
        ERR_USAGE, "a rank cannot take sequences %lld to %lld of a global batch of %lld", (long long)o->first,
        (long long)(o->first + o->count - 1), (long long)o->global_batch);
  CHECK(o->micro_batch > 0 && o->count % o->micro_batch == 0, ERR_USAGE,
        "a micro-batch of %lld sequences does not divide the %lld sequences of a rank", (long long)o->micro_batch,
        (long long)o->count);
  CHECK(!o->crop || mixture_length(o->data) % 2 == 0, ERR_USAGE,
        "%s has rows of %lld tokens: only an even length can be cropped to half", mixture_spec(o->data),
        (long long)mixture_length(o->data));
  return OK;
}

int loader_create(Loader **out, const LoaderOptions *options) {
  Loader *l;
  int err;
  *out = NULL;
  TRY(options_check(options));
  TRY(mem_alloc(&l, sizeof *l));
  l->o = *options;
  l->row = mixture_length(options->data);
  l->L = options->crop ? l->row / 2 : l->row;
  l->per_step = options->count / options->micro_batch;
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->changed, NULL);
  size_t n = (size_t)options->micro_batch;
  for (int i = 0; i < SLOTS; i++) {
    TRY_TO(failed, mem_alloc(&l->slots[i].tokens, n * (size_t)l->row * sizeof(int32_t)));
    TRY_TO(failed, mem_alloc(&l->slots[i].lengths, n * sizeof(int32_t)));
    TRY_TO(failed, mem_alloc(&l->slots[i].labels, n * sizeof(int32_t)));
    TRY_TO(failed, mem_alloc(&l->slots[i].sets, n * sizeof(int32_t)));
    TRY_TO(failed, mem_alloc(&l->slots[i].rows, n * sizeof(int64_t)));
  }
  TRY_TO(failed, thread_start(&l->thread, loader_run, l, "loader"));
  l->started = true;
  *out = l;
  return OK;
failed:
  loader_destroy(&l);
  return err;
}

int loader_next(Loader *l, Micro *m) {
  activity_begin(ACTIVITY_IO, "training data");
  pthread_mutex_lock(&l->lock);
  l->released = l->taken; /* the caller is done with the previous micro-batch */
  pthread_cond_broadcast(&l->changed);
  while (l->filled == l->taken && l->error == OK) pthread_cond_wait(&l->changed, &l->lock);
  bool there = l->filled > l->taken;
  int64_t number = l->taken;
  if (there) l->taken++;
  pthread_mutex_unlock(&l->lock);
  activity_end();
  if (!there) return RAISE(l->error, "%s", l->message); /* no lock: the thread has ended */
  const Slot *slot = &l->slots[number % SLOTS];
  *m = (Micro){.n = l->o.micro_batch,
               .L = l->L,
               .tokens = slot->tokens,
               .lengths = slot->lengths,
               .labels = slot->labels,
               .sets = slot->sets,
               .rows = slot->rows};
  place_of(l, number, &m->step, &m->first);
  return OK;
}

void loader_destroy(Loader **out) {
  Loader *l = *out;
  if (!l) return;
  pthread_mutex_lock(&l->lock);
  l->stop = true;
  pthread_cond_broadcast(&l->changed);
  pthread_mutex_unlock(&l->lock);
  if (l->started) pthread_join(l->thread, NULL);
  for (int i = 0; i < SLOTS; i++) {
    mem_free(&l->slots[i].tokens);
    mem_free(&l->slots[i].lengths);
    mem_free(&l->slots[i].labels);
    mem_free(&l->slots[i].sets);
    mem_free(&l->slots[i].rows);
  }
  pthread_cond_destroy(&l->changed);
  pthread_mutex_destroy(&l->lock);
  mem_free(out);
}
