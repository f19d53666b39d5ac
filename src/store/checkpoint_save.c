/* checkpoint_save — writing a checkpoint, at once or array by array. */
#include "base/clock.h"
#include "base/err.h"
#include "store/checkpoint.h"
#include "store/draft.h"
#include <stdio.h>

/* A file of one set says all by the number of its sequences. */
static int mixture_write(H5 *f, const CheckpointState *s) {
  const MixtureState *m = &s->mixture;
  char name[CHECKPOINT_NAME];
  if (m->n == 0 || (m->n == 1 && m->sets[0].drawn == s->sequences)) return OK;
  TRY(h5_group(f, "/mixture"));
  TRY(h5_set_int(f, "/mixture", "start", m->start));
  for (int i = 0; i < m->n; i++) {
    const MixtureSet *set = &m->sets[i];
    snprintf(name, sizeof name, "/mixture/%s", set->name);
    TRY(h5_group(f, name));
    TRY(h5_set_str(f, name, "digest", set->digest));
    TRY(h5_set_int(f, name, "rows", set->rows));
    TRY(h5_set_int(f, name, "share", set->share));
    TRY(h5_set_int(f, name, "first", set->first));
    TRY(h5_set_int(f, name, "drawn", set->drawn));
  }
  return OK;
}

static int state_write(H5 *f, const CheckpointState *s) {
  TRY(h5_set_format(f, CHECKPOINT_FORMAT, CHECKPOINT_VERSION));
  TRY(h5_set_int(f, "/", "step", s->step));
  TRY(h5_set_int(f, "/", "sequences", s->sequences));
  TRY(h5_set_int(f, "/", "tokens", s->tokens));
  TRY(h5_set_int(f, "/", "masked_tokens", s->masked_tokens));
  TRY(h5_set_int(f, "/", "seed", s->seed));
  TRY(h5_set_int(f, "/", "length", s->length));
  TRY(h5_set_str(f, "/", "deck", s->deck));
  if (s->class_names && *s->class_names) TRY(h5_set_str(f, "/", "class_names", s->class_names));
  TRY(h5_set_str(f, "/", "git", s->git));
  TRY(h5_set_str(f, "/", "data_digest", s->data_digest));
  TRY(h5_set_real(f, "/", "valid_nll", s->valid_nll));
  TRY(h5_set_str(f, "/", "saved", clock_stamp()));
  if (*s->init_digest) TRY(h5_set_str(f, "/", "init_digest", s->init_digest));
  for (int i = 0; i < CKPT_TRACES; i++)
    if (s->trace_sigma[i] > 0) TRY(h5_set_real(f, "/", checkpoint_sigma_names[i], s->trace_sigma[i]));
  TRY(protocol_store(&s->protocol, f));
  TRY(mixture_write(f, s));
  TRY(vocab_store(&s->vocab, f));
  TRY(checkpoint_sum_set(f, "/vocab/bytes", checkpoint_sum(s->vocab.bytes, (size_t)s->vocab.n_bytes)));
  return checkpoint_sum_set(f, "/vocab/offsets", checkpoint_sum_offsets(&s->vocab));
}

int checkpoint_begin(H5 **f, const char *path, const CheckpointState *state) {
  TRY(draft_create(f, path));
  int err = state_write(*f, state);
  if (err == OK) err = h5_group(*f, "/metrics");
  return err == OK ? OK : draft_publish(f, err, path);
}

int checkpoint_put(H5 *f, CheckpointGroup group, const CheckpointArray *a) {
  char name[CHECKPOINT_NAME];
  TRY(checkpoint_array_name(name, checkpoint_groups[group], a->name));
  TRY(h5_write(f, name, H5_F32, a->rank, a->dims, a->data));
  return checkpoint_sum_set(f, name, checkpoint_sum(a->data, checkpoint_array_bytes(a->rank, a->dims)));
}

int checkpoint_link(H5 *f, CheckpointGroup as, CheckpointGroup group) {
  char name[CHECKPOINT_NAME], there[CHECKPOINT_NAME];
  snprintf(name, sizeof name, "/%s", checkpoint_groups[as]);
  snprintf(there, sizeof there, "/%s", checkpoint_groups[group]);
  return h5_link(f, name, there);
}

static int group_write(H5 *f, CheckpointGroup group, const CheckpointArray *arrays, int n) {
  char name[CHECKPOINT_NAME];
  snprintf(name, sizeof name, "/%s", checkpoint_groups[group]);
  TRY(h5_group(f, name));
  for (int i = 0; i < n; i++) TRY(checkpoint_put(f, group, &arrays[i]));
  return OK;
}

static int all_write(H5 *f, CheckpointArray *const groups[CKPT_GROUPS], int n, MetricsTable *const *tables,
                     int n_tables) {
  for (CheckpointGroup g = 0; g < CKPT_GROUPS; g++)
    if (groups[g]) TRY(group_write(f, g, groups[g], n));
  return metrics_store(f, "/metrics", tables, n_tables);
}

int checkpoint_save(const char *path, const CheckpointState *state, CheckpointArray *const groups[CKPT_GROUPS], int n,
                    MetricsTable *const *tables, int n_tables) {
  H5 *f;
  TRY(checkpoint_begin(&f, path, state));
  return draft_publish(&f, all_write(f, groups, n, tables, n_tables), path);
}
