/* vocab — ids to text for each kind of tokenizer; comparing, copying, refusing. */
#include "store_bench.h"

static Vocab vocab_of(VocabKind kind, const char *const *words, int n) {
  Vocab v = {.tokenizer = "test", .hash = "h", .kind = kind, .size = n, .mask = n - 1, .bos = 0, .eos = 1, .pad = 2};
  must(mem_alloc(&v.offsets, (size_t)(n + 1) * sizeof *v.offsets));
  for (int i = 0; i < n; i++) v.offsets[i + 1] = v.offsets[i] + (int64_t)strlen(words[i]);
  v.n_bytes = v.offsets[n];
  must(mem_alloc(&v.bytes, (size_t)v.n_bytes));
  for (int i = 0; i < n; i++) memcpy(v.bytes + v.offsets[i], words[i], strlen(words[i]));
  return v;
}

#define expect_text(v, want, special, ...)                                                                             \
  expect((v), (want), (special), (const int32_t[]){__VA_ARGS__},                                                       \
         sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
static void expect(const Vocab *v, const char *want, VocabSpecial special, const int32_t *ids, size_t n) {
  char *text;
  must(vocab_text(v, ids, (int64_t)n, special, &text));
  assert_string_equal(text, want);
  mem_free(&text);
}

static void byte_pairs(void **state) {
  (void)state;
  static const char *const words[] = {"<s>", "",         "<pad>", "Hello", ",",   " wor",
                                      "ld",  "\xe5\xad", "\x97",  "\xff",  "mask"};
  Vocab v = vocab_of(VOCAB_BYTE_BPE, words, LENGTH(words));
  expect_text(&v, "Hello, world", 0, 0, 3, 4, 5, 6, 1, 2, 2);
  expect_text(&v, "<s>Hello[EOS]<pad>", 1, 0, 3, 1, 2);
  expect_text(&v, "[MASK] wor[MASK]", 0, 10, 5, 10);
  expect_text(&v, "字", 0, 7, 8);                                        /* one character split over two tokens */
  expect_text(&v, "\xef\xbf\xbd\xef\xbf\xbdld\xef\xbf\xbd", 0, 7, 6, 8); /* its halves alone: a replacement each */
  expect_text(&v, "\xef\xbf\xbd", 0, 9);
  char *text;
  must(vocab_text(&v, NULL, 0, 0, &text));
  assert_string_equal(text, "");
  mem_free(&text);
  refused(vocab_text(&v, (const int32_t[]){3, 11}, 2, 0, &text), ERR_DATA, "token 11", "position 1", "11 tokens");
  refused(vocab_text(&v, (const int32_t[]){-1}, 1, 0, &text), ERR_DATA, "token -1");
  vocab_destroy(&v);
  assert_null(v.bytes);
}

static void characters(void **state) {
  (void)state;
  static const char *const words[] = {"[BOS]", "[EOS]", "[PAD]", "a", "b", " ", "[MASK]"};
  Vocab v = vocab_of(VOCAB_CHARS, words, LENGTH(words));
  expect_text(&v, "ab a[MASK]", 0, 0, 3, 4, 5, 3, 6, 1);
  expect_text(&v, "ab\na[MASK]", VOCAB_BREAK, 0, 3, 4, 1, 0, 3, 6, 1, 2, 2); /* between two sequences */
  expect_text(&v, "", VOCAB_BREAK, 0, 1);
  vocab_destroy(&v);
}

static const char *const pieces[] = {"[CLS]", "[SEP]", "[PAD]", "the",   "dog", "##s", "'",  "s",           "don",
                                     "t",     "well",  "-",     "known", "(",   ")",   ".",  ",",           "!",
                                     "?",     ";",     ":",     "3",     "5",   "000", "\"", "caf\xc3\xa9", "[MASK]"};
static int32_t piece(const char *word) {
  int32_t i = 0;
  while (strcmp(pieces[i], word) != 0) i++;
  return i;
}

static void word_pieces(void **state) {
  (void)state;
  static const struct {
    const char *tokens, *text;
  } cases[] = {{"[CLS] the dog ##s [SEP] [PAD]", "the dogs"},
               {"the dog ' s dog", "the dog's dog"},
               {"the dog ##s ' dog", "the dogs' dog"},
               {"don ' t !", "don't!"},
               {"well - known dog", "well-known dog"},
               {"the - - dog", "the - - dog"},
               {"the ( dog ) , the dog .", "the (dog), the dog."},
               {"dog ; the : dog ? the !", "dog; the: dog? the!"},
               {"3 . 5 , 3 , 000", "3.5, 3,000"},
               {"dog . 5", "dog. 5"},
               {"\" caf\xc3\xa9 \"", "\" caf\xc3\xa9 \""},
               {"the [MASK] [MASK] ##s .", "the [MASK] [MASK]s."},
               {"##s the", "s the"}};
  Vocab v = vocab_of(VOCAB_WORDPIECE, pieces, LENGTH(pieces));
  for (int i = 0; i < LENGTH(cases); i++) {
    int32_t ids[20];
    size_t n = 0;
    char copy[100], *save;
    strcpy(copy, cases[i].tokens);
    for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save)) ids[n++] = piece(p);
    expect(&v, cases[i].text, 0, ids, n);
  }
  expect_text(&v, "[CLS] the [SEP]", 1, 0, 3, 1);
  vocab_destroy(&v);
}

/* Every string of up to four bytes from a set of critical ones becomes valid UTF-8, checked by a strict reader. */
static bool is_utf8(const char *s) {
  for (const unsigned char *p = (const unsigned char *)s; *p;) {
    uint32_t c = *p++;
    int more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : -1;
    if (more < 0) return false;
    c &= more == 0 ? 0x7f : 0x3fu >> more;
    for (int i = 0; i < more; i++) {
      if (*p >> 6 != 2) return false;
      c = c << 6 | (*p++ & 0x3f);
    }
    const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
  }
  return true;
}

static void always_utf8(void **state) {
  (void)state;
  static const unsigned char bytes[] = {0,    'a',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0,
                                        0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff};
  Vocab v = data_vocab(256);
  v.mask = v.bos = v.eos = v.pad = 254;
  const int n = LENGTH(bytes);
  for (int x = 0; x < n * n * n * n; x++) {
    int32_t ids[4] = {bytes[x % n], bytes[x / n % n], bytes[x / n / n % n], bytes[x / n / n / n]};
    char *text;
    must(vocab_text(&v, ids, 4, 0, &text));
    char raw[5] = {(char)ids[0], (char)ids[1], (char)ids[2], (char)ids[3], 0};
    assert_true(is_utf8(text));
    if (strlen(raw) == 4 && is_utf8(raw)) assert_string_equal(text, raw); /* valid text is unchanged */
    mem_free(&text);
  }
  vocab_destroy(&v);
}

static void compared(void **state) {
  (void)state;
  Vocab a = vocab_of(VOCAB_WORDPIECE, pieces, LENGTH(pieces)), b;
  must(vocab_copy(&b, &a));
  assert_ptr_not_equal(a.bytes, b.bytes);
  assert_memory_equal(a.bytes, b.bytes, (size_t)a.n_bytes);
  assert_memory_equal(a.offsets, b.offsets, (size_t)(a.size + 1) * sizeof *a.offsets);
  must(vocab_same(&a, "a.h5", &b, "b.h5"));
  b.eos = 9;
  refused(vocab_same(&a, "a.h5", &b, "b.h5"), ERR_DATA, "a.h5", "b.h5", "eos token 1 and 9");
  b.eos = a.eos, b.kind = VOCAB_CHARS;
  refused(vocab_same(&a, "a.h5", &b, "b.h5"), ERR_DATA, "kind");
  b.kind = a.kind, strcpy(b.hash, "g");
  refused(vocab_same(&a, "a.h5", &b, "b.h5"), ERR_DATA, "a.h5", "b.h5", "hash h", "hash g");
  vocab_destroy(&a);
  vocab_destroy(&b);
  vocab_destroy(&b);
  vocab_destroy(NULL);
}

static void stored(void **state) {
  (void)state;
  Vocab a = vocab_of(VOCAB_WORDPIECE, pieces, LENGTH(pieces)), b;
  H5 *f;
  a.pad = -1;
  must(h5_create(&f, bench_path("vocab.h5")));
  must(vocab_store(&a, f));
  must(vocab_load(&b, f));
  must(vocab_same(&a, "a", &b, "b"));
  assert_string_equal(b.tokenizer, "test");
  assert_memory_equal(a.bytes, b.bytes, (size_t)a.n_bytes);
  vocab_destroy(&b);
  must(h5_set_str(f, "/vocab", "kind", "unigram"));
  refused(vocab_load(&b, f), ERR_DATA, "vocab.h5", "unigram", "wordpiece");
  assert_null(b.bytes);
  must(h5_close(&f));
  vocab_destroy(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(byte_pairs),  cmocka_unit_test(characters),
                                     cmocka_unit_test(word_pieces), cmocka_unit_test(always_utf8),
                                     cmocka_unit_test(compared),    cmocka_unit_test(stored)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
