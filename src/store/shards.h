/* shards — tokenized sequences on disk: one or many HDF5 files seen as one matrix of rows.
 *
 * A data file (written by input/prepare.py), format "mdlm-data", version 1:
 *   /tokens   [N,L]  uint16 or uint32, contiguous or chunked
 *   /lengths  [N]    uint32, 1 ≤ length ≤ L: the positions that are scored
 *   /vocab/bytes [n] uint8, /vocab/offsets [V+1] uint64
 *   attributes of /vocab: tokenizer, kind ("byte_bpe" | "wordpiece" | "chars"), hash, size, mask, bos, eos, pad
 *   attributes of /: format, format_version, wrap (int 0|1), detokenizer, source, split, documents (int),
 *                    digest (xxh3-128 hex over the rows as little-endian uint32 tokens then the lengths likewise),
 *                    unigram_nats (float: entropy in nat/token of the best unigram model of this file's scored tokens),
 *                    created, command */
#pragma once
#include "store/vocab.h"

typedef struct Protocol { /* what pins the meaning of a perplexity */
  int wrap;
  char detokenizer[32], source[256], split[64], digest[40];
} Protocol;

/** protocol_load / protocol_store — the attributes wrap, detokenizer, source and split of / in f (the digest's name
 * differs). */
int protocol_load(Protocol *p, H5 *f);
int protocol_store(const Protocol *p, H5 *f);

typedef struct Shards Shards;

/** shards_open — open the files of `spec` (commas, globs; sorted within a glob) as one [n_rows, length] matrix.
 *  Every file must agree in L, vocabulary and protocol. Not collective.
 *  Errors  ERR_DATA naming the file: none matches, unreadable, truncated, not mdlm-data, newer version, missing data
 * set or attribute, wrong shape or type, empty, disagreeing with the first file */
int shards_open(Shards **s, const char *spec);
/** shards_close — NULL-safe, clears the handle. */
void shards_close(Shards **s);
int64_t shards_rows(const Shards *s);
int64_t shards_length(const Shards *s);           /* L */
const Vocab *shards_vocab(const Shards *s);       /* of the first file */
const Protocol *shards_protocol(const Shards *s); /* of the first file; digest combined over all files */
const char *shards_spec(const Shards *s);
/** shards_read — tokens[n,L] and lengths[n] := rows[0..n), in that order; runs of consecutive rows are read at once.
 *  Checked: every token < V, every length in 1..L, the data set's own checksum where it has one.
 *  Errors  ERR_DATA naming file, row and value */
int shards_read(Shards *s, const int64_t *rows, int64_t n, int32_t *tokens, int32_t *lengths);
/** shards_verify — read everything: ids, lengths, digest; `done` (may be NULL) is called with rows read so far. */
int shards_verify(Shards *s, void (*done)(void *arg, int64_t rows), void *arg);
