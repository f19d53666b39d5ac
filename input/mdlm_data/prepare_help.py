"""What mdlm-prepare --help says beyond the options."""

NOTES = """\
inputs, recognised by content, whatever their names:
  text               UTF-8. Text in other encodings and binary files are refused with what they look like.
  records            JSON lines, Parquet, Arrow, a folder that save_to_disk of Hugging Face's datasets wrote: the text
                     is in one field, and each record is a document.
  token ids          with --vocabulary: .npy, .bin of llm.c and of nanoGPT, .bin with .idx of Megatron. Documents end
                     with the eos id.
  Each of them may be compressed by gzip, bzip2, xz or zstd, or be the members of a tar archive.
  zstd needs the Python package zstandard, Parquet and Arrow need pyarrow.

tokenizers:
  bpe:SIZE           train a byte-level BPE on the (training) text: V = SIZE, or less if the text is too small.
                     Ids: 256 bytes, merges, then V-2 <|endoftext|> = bos = eos and V-1 [MASK] = pad.
                     It is trained on every k-th document of a text over 256 MiB.
  gpt2:VOCAB,MERGES  GPT-2's vocab.json and merges.txt: V = 50258, [MASK] = pad = 50257 is appended, bos = eos = 50256.
  bert:VOCAB         lower-casing WordPiece, such as bert-base-uncased's vocab.txt: mask [MASK], bos [CLS], eos [SEP],
                     pad [PAD].
  json:FILE          a Hugging Face tokenizer.json; special tokens by their usual names or --special. A mask token
                     is appended if it has none.
  text8              a-z and blank, V = 35; capitals become small letters, anything else is [UNK].
  chars:SET          the characters of SET, such as chars:ACGTN, and 5 special tokens; anything else is [UNK].
  chars              the same with all characters of the (training) text.
  data:FILE.h5       the tokenizer stored in another data file, to tokenize another corpus with the same ids.
  Text never becomes a special token: "[MASK]" in a corpus is encoded as ordinary characters.
  All ids are spelt as text again and compared with the input: what is lost beyond 0.1 % is a warning, beyond --max-loss
  an error. A tokenizer whose own tokens do not join to text is refused.

rows:
  --wrap     the tokens of every document + eos, concatenated, cut into blocks of L-2, each framed bos ... eos. The
             remainder is dropped; a text shorter than one block becomes one padded row.
  --no-wrap  one document per row: bos ... eos, truncated to L-2 tokens so that eos survives, padded; pads are not
             scored.
  A line that is empty or only white space is a document too: a single eos with --wrap, the row [bos eos] without.
  --map-batch N --shards P
             the rows of code that maps its framing over batches of N documents in P processes, as most papers' does:
             process i has the i-th of P contiguous parts, and the remainder of every batch is dropped.

labels:
  --label-field NAME keeps the class of each document beside its row: names, which get numbers in sorted order, or integers
  from 0 on; a missing field, null or -1 is no class. A file made later has the same numbers by --label-classes.

protocols, which fix the rows of a published perplexity, given as NAME or NAME:VARIANT:
  data sets  lm1b, lm1b_packed, lm1b_gpt2, openwebtext, text8, text8_crop, ptb, wikitext2, wikitext103, lambada, ag_news,
             pubmed, arxiv. INPUT is the text as its authors or Hugging Face distribute it.
  variants   seamless (the default), and those of papers: mdlm2024 (arXiv:2406.07524), bd3lm2025 (2503.09573), duo2025
             (2506.10892). Their rows depend on the processes of their code, by default one per core: give --shards P.
  The file records all of it and `mdlm info` prints it. Options that contradict a protocol are refused.

examples:
  mdlm-prepare bible.txt --tokenizer bpe:4096 --length 128 --valid-documents 1500 \\
               --out-train train.h5 --out-valid valid.h5
  zcat news/*.gz | mdlm-prepare - --tokenizer bert:vocab.txt --length 128 --no-wrap --detokenizer lm1b \\
               --source lm1b --split test --out lm1b_test.h5
  mdlm-prepare owt.txt.gz --documents blank --tokenizer gpt2:vocab.json,merges.txt --length 1024 \\
               --valid-documents 100000 --out-train owt_train.h5 --out-valid owt_valid.h5
  mdlm-prepare wiki.valid.raw --tokenizer gpt2:vocab.json,merges.txt --length 1024 --detokenizer wikitext \\
               --keep-newline --source wikitext2 --split validation --out wikitext2.h5
  head -c 90000000 text8 | mdlm-prepare - --tokenizer text8 --length 512 --out text8.h5   (data.crop takes L = 256)
  mdlm-prepare ptb.valid.txt --protocol ptb:mdlm2024 --shards 8 --tokenizer gpt2:vocab.json,merges.txt --out ptb.h5
  mdlm-prepare lambada_test.jsonl --tokenizer gpt2:vocab.json,merges.txt --length 1024 --no-wrap --detokenizer lambada \\
               --source lambada --split test --out lambada.h5
  mdlm-prepare other.txt --tokenizer data:train.h5 --length 128 --out other.h5
  mdlm-prepare reviews.parquet --label-field stars --no-wrap --tokenizer bpe:4096 --length 128 --out reviews.h5

An output appears under its name when it is complete and replaces a file of that name; a failed or interrupted run
leaves no output. After an interruption the same command goes on from what was tokenized, which OUT.part keeps.
Exit status: 0; 2 after an error; 130 when interrupted."""
