/* checkpoint — bitwise round trips; mismatched models, damaged files, a full disk. */
#include "check.h"
#include "store/checkpoint.h"
#include "store_bench.h"

#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { ARRAYS = 4 };
typedef struct Model { /* four parameters in each of the groups */
  CheckpointArray arrays[CKPT_GROUPS][ARRAYS];
  CheckpointArray *groups[CKPT_GROUPS];
  CheckpointState state;
  MetricsTable train, *tables[1];
} Model;

static const MetricsColumn columns[] = {{"step", "steps", "steps done"}, {"loss", "nat", "loss"}};
static const CheckpointArray shapes[ARRAYS] = {{"vocab_embed.embedding", 2, {20, 8}, NULL},
                                               {"blocks.0.norm1.weight", 1, {16}, NULL},
                                               {"blocks.0.attn_qkv.weight", 2, {24, 8}, NULL},
                                               {"odd.four", 4, {1, 2, 3, 4}, NULL}};

static size_t array_size(const CheckpointArray *a) {
  size_t n = 1;
  for (int i = 0; i < a->rank; i++) n *= (size_t)a->dims[i];
  return n;
}

/* Every bit pattern must survive: NaNs with payload, infinities, -0, subnormals. */
static uint32_t bits_of(int group, int array, size_t i, uint32_t salt) {
  static const uint32_t special[] = {0x7fc00000, 0x7f800001, 0xffc12345, 0x7f800000, 0xff800000, 0x80000000, 1, 0};
  if (i < 8) return special[i];
  return (uint32_t)(i * 2654435761u) ^ (uint32_t)(group << 20) ^ (uint32_t)(array << 16) ^ salt * 977u;
}

static void model_create(Model *m, uint32_t salt) {
  memset(m, 0, sizeof *m);
  for (int g = 0; g < CKPT_GROUPS; g++) {
    m->groups[g] = m->arrays[g];
    for (int a = 0; a < ARRAYS; a++) {
      m->arrays[g][a] = shapes[a];
      must(mem_alloc(&m->arrays[g][a].data, array_size(&shapes[a]) * sizeof(float)));
      for (size_t i = 0; i < array_size(&shapes[a]); i++) {
        uint32_t bits = bits_of(g, a, i, salt);
        memcpy(&m->arrays[g][a].data[i], &bits, sizeof bits);
      }
    }
  }
  m->state = (CheckpointState){.step = 1000 + salt,
                               .length = 8,
                               .tokens = INT64_C(1) << 40,
                               .masked_tokens = 77,
                               .sequences = INT64_C(1) << 33,
                               .seed = 5,
                               .valid_nll = NAN,
                               .git = "abc",
                               .data_digest = "0123456789abcdef0123456789abcdef",
                               .protocol = {.wrap = 1, .detokenizer = "lm1b", .source = "test", .split = "train"}};
  must(mem_strdup(&m->state.deck, "model {\n  width = 8;\n}\n"));
  m->state.vocab = data_vocab(20);
  m->tables[0] = &m->train;
  must(metrics_table_create(&m->train, "train", columns, 2, 10));
  for (int i = 0; i < 3; i++) must(metrics_add(&m->train, (double[]){i, i / 7.0}));
}

static void model_destroy(Model *m) {
  for (int g = 0; g < CKPT_GROUPS; g++)
    for (int a = 0; a < ARRAYS; a++) mem_free(&m->arrays[g][a].data);
  checkpoint_state_destroy(&m->state);
  metrics_table_destroy(&m->train);
}

static int model_save(const char *path, Model *m) {
  return checkpoint_save(path, &m->state, m->groups, ARRAYS, m->tables, 1);
}

static void clear(CheckpointArray *arrays) {
  for (int a = 0; a < ARRAYS; a++) memset(arrays[a].data, 0x55, array_size(&arrays[a]) * sizeof(float));
}

static void expect_arrays(const CheckpointArray *arrays, int group, uint32_t salt) {
  for (int a = 0; a < ARRAYS; a++)
    for (size_t i = 0; i < array_size(&arrays[a]); i++) {
      uint32_t bits;
      memcpy(&bits, &arrays[a].data[i], sizeof bits);
      assert_int_equal(bits, bits_of(group, a, i, salt));
    }
}

static int load_from(const char *path, CheckpointGroup group, CheckpointArray *arrays, int n) {
  H5 *f;
  TRY(checkpoint_open(&f, path));
  int err = checkpoint_load(f, group, arrays, n);
  h5_close(&f);
  return err;
}

static void there_and_back(void **state) {
  (void)state;
  const char *path = bench_path("last.h5");
  Model m;
  CheckpointState s;
  model_create(&m, 0);
  must(model_save(path, &m));
  must(model_save(path, &m)); /* replaces the first one */
  assert_false(bench_there(bench_path("last.h5.tmp")));
  must(checkpoint_verify(path));
  must(checkpoint_read(path, &s));
  assert_int_equal(s.step, m.state.step);
  assert_int_equal(s.tokens, m.state.tokens);
  assert_int_equal(s.masked_tokens, 77);
  assert_true(s.sequences == INT64_C(1) << 33);
  assert_int_equal(s.seed, 5);
  assert_true(isnan(s.valid_nll));
  assert_string_equal(s.deck, m.state.deck);
  assert_string_equal(s.git, "abc");
  assert_string_equal(s.data_digest, m.state.data_digest);
  assert_string_equal(s.protocol.detokenizer, "lm1b");
  assert_int_equal(s.protocol.wrap, 1);
  must(vocab_same(&s.vocab, "file", &m.state.vocab, "memory"));
  assert_memory_equal(s.vocab.bytes, m.state.vocab.bytes, 20);
  checkpoint_state_destroy(&s);
  for (int g = 0; g < CKPT_GROUPS; g++) {
    clear(m.arrays[g]);
    must(load_from(path, (CheckpointGroup)g, m.arrays[g], ARRAYS));
    expect_arrays(m.arrays[g], g, 0);
  }
  model_destroy(&m);
}

/* A handle goes on reading the file that it opened. */
static void replaced_while_open(void **state) {
  (void)state;
  const char *path = bench_path("replaced.h5");
  Model m, other;
  CheckpointState first, s;
  H5 *f;
  model_create(&m, 0);
  model_create(&other, 1);
  other.state.step++;
  must(model_save(path, &m));
  must(checkpoint_read(path, &first));
  must(checkpoint_open(&f, path));
  must(model_save(path, &other));
  must(checkpoint_state(f, &s));
  assert_int_equal(s.step, m.state.step);
  assert_string_equal(s.weights_digest, first.weights_digest);
  clear(m.arrays[CKPT_EMA]);
  must(checkpoint_load(f, CKPT_EMA, m.arrays[CKPT_EMA], ARRAYS));
  expect_arrays(m.arrays[CKPT_EMA], CKPT_EMA, 0);
  h5_close(&f);
  checkpoint_state_destroy(&s);
  checkpoint_state_destroy(&first);
  model_destroy(&m);
  model_destroy(&other);
}

static void names_are_links(void **state) {
  (void)state;
  Model m;
  model_create(&m, 0);
  m.groups[CKPT_ADAM_M] = m.groups[CKPT_ADAM_V] = NULL;
  must(model_save(bench_path("links.h5"), &m));
  hid_t f = H5Fopen(bench_path("links.h5"), H5F_ACC_RDONLY, H5P_DEFAULT), g = H5Gopen2(f, "/params", H5P_DEFAULT);
  assert_true(f >= 0 && g >= 0);
  assert_true(H5Lexists(g, "blocks.0.norm1.weight", H5P_DEFAULT) > 0);
  H5Gclose(g), H5Fclose(f);
  refused(load_from(bench_path("links.h5"), CKPT_ADAM_M, m.arrays[CKPT_ADAM_M], ARRAYS), ERR_DATA, "links.h5",
          "/adam_m", "missing");
  must(checkpoint_verify(bench_path("links.h5")));
  model_destroy(&m);
}

static void metrics_travel(void **state) {
  (void)state;
  const MetricsColumn other[] = {columns[0], {"new", "", "unknown to the file"}, columns[1]};
  MetricsTable t, none, *tables[] = {&t, &none};
  Model m;
  model_create(&m, 0);
  must(model_save(bench_path("metrics.h5"), &m));
  must(metrics_table_create(&t, "train", other, 3, 1)); /* grows */
  must(metrics_table_create(&none, "valid", columns, 2, 4));
  none.n_rows = 2;
  H5 *f;
  must(checkpoint_open(&f, bench_path("metrics.h5")));
  must(checkpoint_metrics(f, tables, 2));
  h5_close(&f);
  assert_int_equal(t.n_rows, 3);
  assert_int_equal(t.written, 0);
  assert_int_equal(none.n_rows, 0);
  for (int i = 0; i < 3; i++) {
    assert_true(t.rows[3 * i] == i && t.rows[3 * i + 2] == i / 7.0);
    assert_true(isnan(t.rows[3 * i + 1]));
  }
  metrics_table_destroy(&t);
  metrics_table_destroy(&none);
  model_destroy(&m);
}

static void another_model(void **state) {
  (void)state;
  const char *path = bench_path("model.h5");
  Model m;
  model_create(&m, 0);
  must(model_save(path, &m));
  CheckpointArray *a = m.arrays[CKPT_PARAMS];
  refused(load_from(path, CKPT_PARAMS, a, ARRAYS - 1), ERR_DATA, "model.h5", "/params/odd.four", "not in the model");
  a[2].dims[0] = 12;
  refused(load_from(path, CKPT_PARAMS, a, ARRAYS), ERR_DATA, "model.h5", "/params/blocks.0.attn_qkv.weight",
          "[24,8] in the file, [12,8] in the model");
  a[2].dims[0] = 24, a[1].rank = 2, a[1].dims[1] = 1;
  refused(load_from(path, CKPT_PARAMS, a, ARRAYS), ERR_DATA, "[16] in the file, [16,1] in the model");
  a[1].rank = 1, a[1].dims[1] = 0, a[1].name = "blocks.1.norm1.weight";
  refused(load_from(path, CKPT_PARAMS, a, ARRAYS), ERR_DATA, "/params/blocks.1.norm1.weight is missing");
  model_destroy(&m);
}

static void wrong_formats(void **state) {
  (void)state;
  const char *path = bench_path("format.h5");
  CheckpointState s;
  Model m;
  H5 *f;
  model_create(&m, 0);
  must(model_save(path, &m));
  must(h5_open(&f, path, true));
  must(h5_set_int(f, "/", "format_version", 2));
  must(h5_set_str(f, "/", "version", "9.8.7"));
  must(h5_close(&f));
  refused(checkpoint_read(path, &s), ERR_USAGE, "format.h5 was written by a newer version of mdlm (9.8.7)", "version 2",
          "up to 1");
  refused(load_from(path, CKPT_EMA, m.arrays[CKPT_EMA], ARRAYS), ERR_USAGE, "format.h5", "version 2");
  data_write(path, &(Data){.N = 3, .L = 2, .V = 9, .type = H5_U16});
  refused(checkpoint_read(path, &s), ERR_DATA, "format.h5 is not a checkpoint", "mdlm-data");
  assert_null(s.deck);
  refused(checkpoint_verify(bench_path("none.h5")), ERR_DATA, "none.h5", "no such file");
  model_destroy(&m);
}

/* A bit of each byte of the arrays is flipped. The file has no seal, so the data set's own checksum must find the
 * error, and the message must name the data set. */
static void flipped_numbers(void **state) {
  (void)state;
  const char *path = bench_path("flip.h5");
  char name[100];
  Model m;
  model_create(&m, 0);
  must(model_save(path, &m));
  bench_unseal(path);
  const int stride = check_stride(17) * (check_long() ? 1 : 13);
  for (int g = 0; g < CKPT_GROUPS; g += 3)
    for (int a = 0; a < ARRAYS; a++) {
      const CheckpointArray *array = &shapes[a];
      size_t bytes = array_size(array) * sizeof(float);
      uint32_t *bits = malloc(bytes);
      for (size_t i = 0; i < array_size(array); i++) bits[i] = bits_of(g, a, i, 0);
      long at = bench_find(path, bits, bytes);
      free(bits);
      assert_true(at > 0);
      snprintf(name, sizeof name, "flip.h5 is damaged: checksum error in /%s/%s", g ? "adam_v" : "params", array->name);
      for (long i = 0; i < (long)bytes; i += stride) {
        bench_flip(path, at + i, 1 << i % 8);
        refused(load_from(path, (CheckpointGroup)g, m.arrays[g], ARRAYS), ERR_DATA, name);
        if (i % 50 == 0) refused(checkpoint_verify(path), ERR_DATA, name);
        bench_flip(path, at + i, 1 << i % 8);
      }
    }
  must(checkpoint_verify(path));
  model_destroy(&m);
}

/* A bit of any byte of the file is flipped, also where HDF5 would crash: the seal finds it first. Only in the last
 * eight bytes, which mark the file as sealed, a flip removes the seal instead. */
static void flipped_anywhere(void **state) {
  (void)state;
  const char *path = bench_path("anywhere.h5");
  long size;
  Model m;
  model_create(&m, 0);
  must(model_save(path, &m));
  free(bench_slurp(path, &size));
  assert_true(bench_sealed(path) < size);
  const long fine = check_stride(17);
  for (long i = 0, step; i < size; i += step) {
    bool at_end = i > size - 100;
    step = at_end ? 1 : i < 4096 ? fine : 37 * fine;
    bench_flip(path, i, 1 << i % 8);
    if (i < size - 8)
      refused(checkpoint_verify(path), ERR_DATA, "anywhere.h5 is damaged", "checksum");
    else
      must(checkpoint_verify(path));
    bench_flip(path, i, 1 << i % 8);
  }
  must(checkpoint_verify(path));
  model_destroy(&m);
}

static void cut(void **state) {
  (void)state;
  long size;
  CheckpointState s;
  Model m;
  model_create(&m, 0);
  must(model_save(bench_path("whole.h5"), &m));
  char *bytes = bench_slurp(bench_path("whole.h5"), &size);
  const long end = bench_sealed(bench_path("whole.h5"));
  const long every = 3989 * check_stride(10); /* without a seal a file's structure is read in a child process */
  for (long n = 0; n < end; n += n + every < end || n == end - 1 ? every : end - 1 - n) {
    bench_spit(bench_path("cut.h5"), bytes, n);
    refused(checkpoint_read(bench_path("cut.h5"), &s), ERR_DATA, "cut.h5");
  }
  for (long n = end; n < size; n += 7) { /* only the seal is cut off: all data are intact */
    bench_spit(bench_path("cut.h5"), bytes, n);
    must(checkpoint_verify(bench_path("cut.h5")));
  }
  free(bytes);
  model_destroy(&m);
}

static int save_with_limit(const char *path, Model *m, long limit) {
  int status;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &r);
    int err = model_save(path, m);
    exit(err == ERR_IO && !(strstr(err_message(), path) && strstr(err_message(), "File too large")) ? 50 : err);
  }
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Whenever the disk becomes full, the old checkpoint stays intact and no part of the new one is left. */
static void full_disk(void **state) {
  (void)state;
  const char *path = bench_path("kept.h5");
  long size;
  Model old, new;
  CheckpointState s;
  model_create(&old, 0);
  model_create(&new, 1);
  must(model_save(path, &old));
  free(bench_slurp(path, &size));
  for (long limit = 0; limit < size; limit += 1009 * check_stride(10)) {
    assert_int_equal(save_with_limit(path, &new, limit), ERR_IO);
    assert_false(bench_there(bench_path("kept.h5.tmp")));
  }
  must(checkpoint_verify(path));
  must(load_from(path, CKPT_EMA, new.arrays[CKPT_EMA], ARRAYS));
  expect_arrays(new.arrays[CKPT_EMA], CKPT_EMA, 0);
  model_destroy(&new);
  model_create(&new, 1);
  assert_int_equal(save_with_limit(path, &new, 2 * size), OK);
  must(checkpoint_read(path, &s));
  assert_int_equal(s.step, 1001);
  checkpoint_state_destroy(&s);
  model_destroy(&old);
  model_destroy(&new);
}

/* The digest depends on the weights only: not on step or metrics, but on every value, name and group. */
static void digest_of_weights(void **state) {
  (void)state;
  const char *path = bench_path("digest.h5");
  char digest[5][33];
  for (int k = 0; k < 5; k++) {
    Model m;
    model_create(&m, 0);
    if (k == 1) m.state.step++, m.arrays[CKPT_ADAM_M][0].data[9] = 1.5f, must(metrics_add(&m.train, (double[]){9, 9}));
    if (k == 2) m.arrays[CKPT_EMA][2].data[20] = 1.5f;
    if (k == 3) m.arrays[CKPT_PARAMS][1].name = "blocks.0.norm2.weight";
    if (k == 4) m.groups[CKPT_EMA] = NULL;
    must(model_save(path, &m));
    CheckpointState s;
    must(checkpoint_read(path, &s));
    strcpy(digest[k], s.weights_digest);
    checkpoint_state_destroy(&s);
    assert_int_equal(strspn(digest[k], "0123456789abcdef"), 32);
    model_destroy(&m);
  }
  assert_string_equal(digest[0], digest[1]);
  for (int a = 1; a < 5; a++)
    for (int b = 1; b < a; b++) assert_string_not_equal(digest[a], digest[b]);
}

static void cannot_write(void **state) {
  (void)state;
  Model m;
  model_create(&m, 0);
  refused(model_save(bench_path("none/last.h5"), &m), ERR_IO, "none/last.h5", "No such file or directory");
  assert_int_equal(mkdir(bench_path("taken.h5"), 0755), 0); /* a directory has the name: the rename fails */
  bench_spit(bench_path("taken.h5/x"), "x", 1);
  refused(model_save(bench_path("taken.h5"), &m), ERR_IO, "taken.h5", "cannot rename");
  assert_false(bench_there(bench_path("taken.h5.tmp")));
  model_destroy(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(there_and_back),  cmocka_unit_test(replaced_while_open), cmocka_unit_test(names_are_links),
      cmocka_unit_test(metrics_travel),  cmocka_unit_test(another_model),       cmocka_unit_test(wrong_formats),
      cmocka_unit_test(flipped_numbers), cmocka_unit_test(flipped_anywhere),    cmocka_unit_test(cut),
      cmocka_unit_test(full_disk),       cmocka_unit_test(digest_of_weights),   cmocka_unit_test(cannot_write)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
