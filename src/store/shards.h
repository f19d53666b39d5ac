/* shards — tokenized sequences on disk: one or several HDF5 files seen as one matrix of rows.
 *
 * A data file (written by mdlm-prepare), format "mdlm-data", version 1:
 *   /tokens         [N,L]   uint16 or uint32, contiguous or chunked
 *   /lengths        [N]     uint16 or uint32, 1 ≤ length ≤ L: the positions that are scored
 *   /label          [N]     int32, of files whose documents have classes: the class of each row, −1 if it is unknown.
 *                           Attributes classes: their number; names: their names in order, one a line, or ""
 *   /vocab/bytes    [n]     uint8
 *   /vocab/offsets  [V+1]   uint64
 *   attributes of /vocab    tokenizer, kind ("byte_bpe" | "wordpiece" | "chars"), hash, size, mask, bos, eos, pad
 *   attributes of /         format, format_version, wrap (0 | 1), detokenizer, source, split, documents, created,
 *                           command, digest (XXH3-128 in hex over all tokens, then all lengths, then all labels,
 *                           as little-endian uint32), unigram_nats (entropy of the best unigram model of the scored tokens, nat per
 *                           token), document_unit
 *   what else fixes the rows, also attributes of /, which older files and those of mdlm-retokenize lack:
 *     framing               "documents" (wrap = 0) | "seamless" (one stream of tokens) | "replay" (each batch of
 *                           documents is a stream of its own, as in the papers' code; input/mdlm_data/replay.py)
 *     map_batch, shards     of replay: documents in a batch, processes among which they were divided; else 0
 *     add_eos               0 | 1: eos after each document
 *     add_special           0 | 1: bos and eos around each row
 *     field, label_field    of the records that held the text and the class
 *     revision              of the corpus, if it was named
 *     protocol, variant     of mdlm-prepare --protocol (input/mdlm_data/protocols.py); with it also
 *     dataset               name and configuration in Hugging Face's datasets, or the address of the text
 *     scored                positions of a row that the variant's code scores: "all" | "all but the first". mdlm scores
 *                           all that are within `lengths`, whatever this says
 *   counts, also attributes of /, which older files and those of mdlm-retokenize lack:
 *     bytes                 of the text that is in rows: its length in UTF-8, as it was before the detokenizer, after
 *                           invalid bytes became U+FFFD; without a byte-order mark and without what separates documents
 *                           (line ends, unless they are kept; blank lines; eos)
 *     words                 of the same text: runs of characters that are not Unicode white space
 *                           A document of which only some tokens are in rows (truncated, or in the remainder) counts in
 *                           proportion: floor(bytes · kept / all tokens); wrapped documents of more than 256 Ki
 *                           characters do so in pieces. Of files of token ids: of the text that they spell
 *     scored_tokens         sum of the lengths
 *     empty_documents       documents without a token
 *     truncated_documents, truncated_tokens   with wrap = 0: documents longer than a row, and their tokens in no row
 *     dropped_tokens        with wrap = 1: tokens of remainders, which fill no row (eos included)
 *     replaced_bytes        invalid or NUL bytes that became U+FFFD, in all of the input (both parts of a split)
 *     unknown_tokens, lost_characters   what the tokenizer did not keep, in all of the documents: tokens for what it
 *                           cannot spell; characters that the text spelt from the ids lacks */
#pragma once
#include "store/vocab.h"

typedef struct Protocol { /* the data preparation on which a perplexity depends */
  int wrap;
  char detokenizer[32], source[256], split[64], digest[40];
} Protocol;

/** protocol_load, protocol_store — the attributes wrap, detokenizer, source and split of /. The digest is the caller's:
 *  its attribute has different names in data files and in checkpoints. */
int protocol_load(Protocol *p, H5 *f);
int protocol_store(const Protocol *p, H5 *f);

/** digest_bytes — XXH3-128 in hex. */
void digest_bytes(char digest[40], const void *bytes, size_t n);

typedef struct Shards Shards;

/** shards_open — open the files of `spec` (a comma-separated list of paths and globs; each glob is sorted) as one
 *  matrix [n_rows, length]. All files must agree in L, vocabulary and protocol, also in the attributes framing,
 *  protocol and variant where they have them, in whether they have labels and in the names of the classes. Not collective.
 *  Errors  ERR_DATA naming the file: no match, unreadable, truncated, not mdlm-data, a newer version, a missing data
 *          set or attribute, a wrong shape or type, empty, in disagreement with the first file;
 *          ERR_USAGE: two files with the same rows */
int shards_open(Shards **s, const char *spec);
/** shards_close — NULL-safe, clears the handle. */
void shards_close(Shards **s);
/** shards_mix — whether one network can be trained on both: the same length, vocabulary, wrap and framing, and the same
 *  names of classes where both have labels. ERR_DATA */
int shards_mix(const Shards *a, const Shards *b);
int64_t shards_rows(const Shards *s);
int64_t shards_length(const Shards *s);           /* L */
const Vocab *shards_vocab(const Shards *s);       /* of the first file */
const Protocol *shards_protocol(const Shards *s); /* of the first file; digest combined over all files */
const char *shards_spec(const Shards *s);
typedef struct ShardsText {
  int64_t bytes, words; /* of the text in the rows; −1: not every file says so */
  int64_t tokens;       /* Σ of the lengths of all rows */
} ShardsText;
/** shards_text — how much text the rows hold. Reads the lengths of all rows. ERR_DATA, ERR_MEMORY */
int shards_text(Shards *s, ShardsText *t);
/** shards_read — tokens[n,L] and lengths[n] := the rows rows[n], in that order; a run of consecutive rows is one read.
 *  Checks that every token is < V and that no scored one is the mask, that every length is in 1 … L, and the data set's
 *  checksum if it has one, and that the files read from are those that were opened (h5_unchanged).
 *  Errors  ERR_DATA naming file, row and value */
int shards_read(Shards *s, const int64_t *rows, int64_t n, int32_t *tokens, int32_t *lengths);
/** shards_classes — the number of classes of the rows; 0: they have no labels. */
int64_t shards_classes(const Shards *s);
/** shards_class_names — the names of the classes, one a line; "": they have none. */
const char *shards_class_names(const Shards *s);
/** shards_suit — whether the classes of the rows, if they have any, are those of a network with so many, which came from
 *  `owner`, under the same names. Where one side has no names, numbers count. ERR_DATA */
int shards_suit(const Shards *s, int64_t classes, const char *names, const char *owner);
/** shards_labels — labels[n] := the classes of the rows rows[n], −1 where it is unknown.
 *  Errors  ERR_DATA naming file, row and value of one that is not below the file's number of classes */
int shards_labels(Shards *s, const int64_t *rows, int64_t n, int32_t *labels);
/** shards_verify — read and check everything: ids, lengths, labels, digest. `done` (may be NULL) is a callback for progress,
 *  with the number of rows read so far. */
int shards_verify(Shards *s, void (*done)(void *arg, int64_t rows), void *arg);
/** shards_trust — the digest names the rows wherever results are compared or a run is resumed, so a wrong one must not pass:
 *  verify files without a seal, which other programs have made, up to 32 Mi tokens each (a tenth of a second), and warn of
 *  larger ones. The seal of a file covers its rows and its digest, which mdlm-prepare wrote together.
 *  Errors  ERR_DATA: those of shards_verify */
int shards_trust(Shards *s);
