/* prompt — the same prompts from HDF5 and from text; invalid prompts are refused with file and position. */
#include "store/prompt.h"
#include "store_bench.h"

enum { MASK = 9, TOKENS = 4 };
static const Vocab vocab = {.tokenizer = "bpe", .hash = "0123456789abcdef0123456789abcdef", .size = 10, .mask = MASK};

static void write_rows(const char *path, int64_t n, int64_t length, const int32_t *rows, const char *hash) {
  H5 *f;
  must(h5_create(&f, path));
  must(h5_write(f, "/tokens", H5_I32, 2, (int64_t[]){n, length}, rows));
  if (hash) must(h5_set_str(f, "/", "tokenizer_hash", hash));
  must(h5_close(&f));
}

static const char *lines(const char *name, const char *text) {
  bench_spit(bench_path(name), text, (long)strlen(text));
  return bench_path(name);
}

static void expect(const char *path, int64_t n, const int32_t *want) {
  Prompts p;
  must(prompts_read(&p, path, &vocab, TOKENS));
  assert_int_equal(p.n, n);
  assert_int_equal(p.length, TOKENS);
  for (int64_t i = 0; i < 3 * n; i++)
    assert_memory_equal(prompts_of(&p, i), want + i % n * TOKENS, TOKENS * sizeof *want);
  prompts_destroy(&p);
  assert_null(p.tokens);
}

static void both_forms(void **state) {
  (void)state;
  const int32_t want[3][TOKENS] = {{1, MASK, 3, MASK}, {MASK, MASK, MASK, MASK}, {0, 8, 7, 6}};
  const char *h5 = bench_path("prompts.h5");
  expect(lines("prompts.txt", "1 _ 3\n\n0 8 7 6\n"), 3, want[0]);
  expect(lines("loose.txt", "  1\t_  3 _\r\n_\n0 8 7 6"), 3, want[0]);
  for (int hash = 0; hash < 2; hash++) {
    write_rows(h5, 3, TOKENS, want[0], hash ? vocab.hash : NULL);
    expect(h5, 3, want[0]);
  }
  const int32_t narrow[3][3] = {{1, MASK, 3}, {MASK, MASK, MASK}, {0, 8, 7}};
  const int32_t wide[3][TOKENS] = {{1, MASK, 3, MASK}, {MASK, MASK, MASK, MASK}, {0, 8, 7, MASK}};
  write_rows(h5, 3, 3, narrow[0], vocab.hash);
  expect(h5, 3, wide[0]);
}

/* Tokenized data can serve as prompts: it has unsigned ids and the hash at /vocab. */
static void tokenized_data(void **state) {
  (void)state;
  const char *path = bench_path("data.h5");
  Prompts p;
  for (int same = 0; same < 2; same++) {
    H5 *f;
    must(h5_create(&f, path));
    must(h5_write(f, "/tokens", H5_U16, 2, (int64_t[]){1, 2}, (uint16_t[]){5, 6}));
    must(h5_group(f, "/vocab"));
    must(h5_set_str(f, "/vocab", "hash", same ? vocab.hash : "another"));
    must(h5_close(&f));
    if (!same) refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "data.h5", "another vocabulary", "another,");
  }
  expect(path, 1, (int32_t[]){5, 6, MASK, MASK});
}

/* Positions beyond the length of a row are holes, whatever they contain. One-byte ids are allowed. */
static void lengths(void **state) {
  (void)state;
  const char *path = bench_path("lengths.h5");
  Prompts p;
  for (int64_t bad = 0; bad < 2; bad++) {
    H5 *f;
    must(h5_create(&f, path));
    must(h5_write(f, "/tokens", H5_I8, 2, (int64_t[]){2, 3}, (int8_t[]){1, 2, 3, 4, 99, -1}));
    must(h5_write(f, "/lengths", H5_I16, 1, (int64_t[]){2}, (int16_t[]){3, bad ? 4 : 1}));
    must(h5_close(&f));
    if (!bad) expect(path, 2, (int32_t[]){1, 2, 3, MASK, 4, MASK, MASK, MASK});
  }
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "lengths.h5", "length of row 1 is 4", "3 columns");
}

static void no_prompts(void **state) {
  (void)state;
  const struct {
    const char *text, *words[3];
  } cases[] = {{"1 2\n3 four\n", {"line 2", "token 1", "`four`"}},
               {"1\n2 10\n", {"line 2", "token 1: 10", "0 to 9"}},
               {"-1\n", {"line 1", "token 0: -1", "_ for a hole"}},
               {"1 2 9\n", {"line 1", "token 2: 9 is the mask", "_"}},
               {"1\n\n_ _ _ _ _\n", {"line 3", "5 tokens", "sample.num_strides"}},
               {"99999999999999999999", {"line 1", "99999999999999999999", "not a token id"}},
               {"1 2.5", {"line 1", "token 1", "`2.5`"}}};
  Prompts p;
  for (int i = 0; i < LENGTH(cases); i++)
    refused(prompts_read(&p, lines("bad.txt", cases[i].text), &vocab, TOKENS), ERR_DATA, "bad.txt", cases[i].words[0],
            cases[i].words[1], cases[i].words[2]);
  bench_spit(bench_path("bad.bin"), "1 2\0003", 5);
  refused(prompts_read(&p, bench_path("bad.bin"), &vocab, TOKENS), ERR_DATA, "bad.bin", "neither HDF5 nor text");
  refused(prompts_read(&p, lines("empty.txt", ""), &vocab, TOKENS), ERR_DATA, "empty.txt", "empty");
  refused(prompts_read(&p, bench_path("none.txt"), &vocab, TOKENS), ERR_DATA, "none.txt", "no such file");
  refused(prompts_read(&p, bench_folder, &vocab, TOKENS), ERR_DATA, bench_folder, "directory");
}

static void no_rows(void **state) {
  (void)state;
  const char *path = bench_path("bad.h5");
  const int32_t rows[2][5] = {{1, 2, 3, 4, 5}, {1, 2, 3, 4, 5}}, high[2][2] = {{1, 2}, {3, 10}},
                low[2][2] = {{1, 2}, {-1, 3}};
  Prompts p;
  H5 *f;
  write_rows(path, 2, 5, rows[0], NULL);
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "row 0", "5 tokens", "4 of a sample",
          "num_strides");
  write_rows(path, 2, 2, high[0], NULL);
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "row 1, position 1", "holds 10", "0 to 9");
  write_rows(path, 2, 2, low[0], NULL);
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "row 1, position 0", "holds -1", "mask id 9");
  must(h5_create(&f, path));
  must(h5_write(f, "/tokens", H5_I64, 2, (int64_t[]){1, 2}, (int64_t[]){1, 1LL << 40}));
  must(h5_close(&f));
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "row 0, position 1", "holds 1099511627776");
  write_rows(path, 2, 2, high[0], "ffff");
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "another vocabulary", "ffff", vocab.hash);
  write_rows(path, 0, 2, NULL, NULL);
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "no prompt");
  must(h5_create(&f, path));
  must(h5_close(&f));
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "no data set /tokens");
  for (int k = 0; k < 2; k++) {
    must(h5_create(&f, path));
    if (k) must(h5_write(f, "/tokens", H5_F64, 2, (int64_t[]){1, 1}, (double[]){1}));
    if (!k) must(h5_write(f, "/tokens", H5_I32, 1, (int64_t[]){1}, (int32_t[]){1}));
    must(h5_close(&f));
    refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5", "integers", "[N,L]");
  }
  assert_int_equal(truncate(path, 50), 0);
  refused(prompts_read(&p, path, &vocab, TOKENS), ERR_DATA, "bad.h5");
}

static void nothing_fixed(void **state) {
  (void)state;
  Prompts p;
  must(prompts_none(&p, &vocab, TOKENS));
  for (int64_t i = 0; i < 5; i++)
    for (int l = 0; l < TOKENS; l++) assert_int_equal(prompts_of(&p, i)[l], MASK);
  prompts_destroy(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(both_forms), cmocka_unit_test(tokenized_data),
                                     cmocka_unit_test(lengths),    cmocka_unit_test(no_prompts),
                                     cmocka_unit_test(no_rows),    cmocka_unit_test(nothing_fixed)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
