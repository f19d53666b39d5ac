/* vocab_map — the tokens of one vocabulary in another. */
#pragma once
#include "store/vocab.h"

/** vocab_map — map[to->size]: for each token of `to` the id of the same token in `from`, or −1: mask, bos, eos and pad by
 *  what they are for, the others by their bytes (of several with the same bytes the first). *known: how many are there.
 *  ERR_MEMORY */
int vocab_map(const Vocab *from, const Vocab *to, int32_t *map, int64_t *known);
