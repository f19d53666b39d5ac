/* requests — targets whose likelihood given a context is asked for: the questions of a benchmark with their options, or
 * windows of a text.
 *
 *   /requests/tokens          [total]  token ids, request after request: context, then target
 *   /requests/offset          [N]      where a request begins
 *   /requests/context_length  [N]      ≥ 0
 *   /requests/target_length   [N]      ≥ 1
 *   /requests/option_of       [N]      optional: the question that this target is an option of, 0 ≤ question < N
 *   /requests/gold            [N]      optional: 1 where it is the right one, else 0
 *   /requests/bytes           [N]      optional: of the target's text, ≥ 1
 * The attributes tokenizer and tokenizer_hash of / name the vocabulary. mdlm-tasks makes such a file. */
#pragma once
#include "store/vocab.h"

typedef struct Requests {
  int64_t n;
  int32_t *tokens;
  int64_t *offset, *context, *target; /* [n] */
  int64_t *option_of, *gold, *bytes;  /* [n], or NULL */
} Requests;

/** requests_read — the requests of the file; its vocabulary must be v, which came from the file `owner`.
 *  Errors  ERR_DATA naming file, data set and request: not such a file, of another vocabulary, lengths that do not fit,
 *  a value that is no token, a mask in a target */
int requests_read(Requests *r, const char *path, const Vocab *v, const char *owner);
/** requests_destroy — NULL-safe, clears r. */
void requests_destroy(Requests *r);
