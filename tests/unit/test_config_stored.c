/* config_stored — decks stored by other versions of the program: keys that are new, keys that are gone, and what differs
 * from a deck of today. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void gone_and_new_keys(void **state) {
  (void)state;
  Config c;
  char *gone;
  const char *deck =
      "train: { rate = 0.1; lr = 0.5; } old: { list = [1, 2]; flag = true; name = \"a\"; } model: { n = 3; }";
  assert_int_equal(config_load_text(&c, deck, "last.h5", &gone), OK);
  assert_string_equal(gone, "train.rate = 0.1, old.list = a list, old.flag = true, old.name = \"a\", model.n = 3");
  assert_true(c.train_lr == 0.5 && c.train_beta1 == 0.9);
  mem_free(&gone);
  config_free(&c);
}

/* What is no deck of any version stays an error, and the list of gone keys is freed. */
static void still_refused(void **state) {
  (void)state;
  static const char *const decks[] = {"old: { a = 1; } train: { lr = true; }", "old: { a = 1; } lr = 1;",
                                      "old: { a = 1; } model: { name = \"none\"; }", "old: { a = 1; "};
  for (size_t i = 0; i < sizeof decks / sizeof decks[0]; i++) {
    Config c;
    char *gone;
    assert_int_equal(config_load_text(&c, decks[i], "last.h5", &gone), ERR_USAGE);
    assert_ptr_equal(strstr(err_message(), "last.h5:"), err_message());
    assert_null(gone);
    assert_null(c.run_dir);
    err_clear();
  }
}

static void append(void *arg, const char *key, const char *now, const char *before) {
  char *text = arg;
  size_t used = strlen(text);
  snprintf(text + used, 512 - used, "%s %s %s\n", key, now, before);
}

static void differences(void **state) {
  (void)state;
  Config now, before;
  char *gone, text[512] = "";
  assert_int_equal(config_load(&now, NULL, 0, NULL), OK);
  assert_int_equal(config_load(&before, NULL, 0, NULL), OK);
  assert_int_equal(config_compare(&now, &before, append, text), OK);
  assert_string_equal(text, "");
  config_free(&before);
  const char *deck = "run: { dir = \"a \\\"b\\\"\"; seed = 2; } train: { lr = 3.0e-4; beta1 = 0.90000000000000002;\n"
                     "clip = 1.0000000000000002; } model: { mask_padding = true; name = \"ar\"; }";
  assert_int_equal(config_load_text(&before, deck, "last.h5", &gone), OK);
  assert_null(gone);
  assert_int_equal(config_compare(&now, &before, append, text), OK);
  assert_string_equal(text, "run.dir \"\" \"a \\\"b\\\"\"\nrun.seed 1 2\nmodel.name \"dit\" \"ar\"\n"
                            "model.mask_padding false true\ntrain.clip 1.0 1.0000000000000002\n");
  config_free(&before);
  config_free(&now);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gone_and_new_keys),
      cmocka_unit_test(still_refused),
      cmocka_unit_test(differences),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
