"""Named protocols: all that fixes the rows of a published perplexity, but the text.

A protocol is a data set and a variant, NAME:VARIANT. A data set says what the text is; a variant says how the code of a
paper makes rows of it. What they fix is recorded in the data file, so never change an entry: add a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mdlm_data.errors import InputError, require

OURS = "seamless"


@dataclass(frozen=True)
class DataSet:
    tokenizer: str  # name of the vocabulary, as in SPECIAL_IDS
    length: int
    splits: tuple[str, ...]  # the first is the default
    dataset: str = ""  # in `datasets`: name, configuration; "json" and an address
    field: str = "text"
    detokenizer: str = "none"
    wrap: bool = True
    documents: str = "line"  # what a document of plain text is; a record is one
    keep_newline: bool = False
    strip: bool = False  # the data set has no white space around its documents
    valid_documents: int | None = None  # of the split into train and valid
    zero_shot: bool = False  # evaluated by models of another corpus
    shares_eos: bool = False  # where a reference wraps it, bos stands for eos too
    source: str = ""  # default: the protocol's name


@dataclass(frozen=True)
class Variant:
    map_batch: int = 0  # documents in a batch of the reference; 0: seamless
    zero_shot_eos: bool = True  # eos after each document of a zero-shot set
    unframed: tuple[str, ...] = ()  # data sets whose rows have no bos and eos around them
    scored: str = "all"  # positions of a row that the reference scores


def _zero_shot(dataset: str, split: str, **more: Any) -> DataSet:
    return DataSet("gpt2", 1024, (split,), dataset, zero_shot=True, **more)


LM1B = {"dataset": "billion-word-benchmark/lm1b", "detokenizer": "lm1b", "strip": True}
WIKITEXT = {"detokenizer": "wikitext", "keep_newline": True}
PAPERS = {"field": "article", "detokenizer": "scientific_papers"}
LAMBADA = "json https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl"

DATA_SETS: dict[str, DataSet] = {
    "lm1b": DataSet("bert-base-uncased", 128, ("test", "train"), wrap=False, **LM1B),
    "lm1b_packed": DataSet("bert-base-uncased", 128, ("test", "train"), shares_eos=True, source="lm1b", **LM1B),
    "lm1b_gpt2": _zero_shot(split="test", source="lm1b", **LM1B),
    "openwebtext": DataSet(
        "gpt2", 1024, ("valid", "train"), "Skylion007/openwebtext", documents="blank", valid_documents=100_000
    ),
    "text8": DataSet("text8", 256, ("test", "valid", "train"), documents="chunk"),
    "text8_crop": DataSet("text8", 512, ("train",), documents="chunk", source="text8"),  # for data.crop, L = 256
    "ptb": _zero_shot("ptb-text-only/ptb_text_only", "validation", field="sentence", detokenizer="ptb", strip=True),
    "wikitext2": _zero_shot("Salesforce/wikitext wikitext-2-raw-v1", "validation", **WIKITEXT),
    "wikitext103": _zero_shot("Salesforce/wikitext wikitext-103-raw-v1", "validation", **WIKITEXT),
    "lambada": _zero_shot(LAMBADA, "test", detokenizer="lambada"),
    "ag_news": _zero_shot("fancyzhx/ag_news", "test"),
    "pubmed": _zero_shot("armanc/scientific_papers pubmed", "validation", **PAPERS),
    "arxiv": _zero_shot("armanc/scientific_papers arxiv", "validation", **PAPERS),
}

VARIANTS: dict[str, Variant] = {
    OURS: Variant(),
    "mdlm2024": Variant(1000),  # arXiv:2406.07524
    "bd3lm2025": Variant(1000, False, ("openwebtext",), "all but the first"),  # arXiv:2503.09573
    "duo2025": Variant(1000, False),  # arXiv:2506.10892
}

# mask, bos, eos, pad of the vocabularies that the references use
SPECIAL_IDS = {"gpt2": (50257, 50256, 50256, 50257), "bert-base-uncased": (103, 101, 102, 0), "text8": (4, 2, 3, 5)}
ZERO_SHOT = tuple(name for name, data in DATA_SETS.items() if data.zero_shot)


def parts(spec: str) -> tuple[str, str]:
    """Data set and variant of NAME or NAME:VARIANT."""
    name, colon, variant = spec.partition(":")
    if name not in DATA_SETS:
        raise InputError(f"--protocol {spec}: no data set {name!r}; known: {', '.join(DATA_SETS)}")
    variant = variant if colon else OURS
    if variant not in VARIANTS:
        raise InputError(f"--protocol {spec}: no variant {variant!r}; known: {', '.join(VARIANTS)}")
    return name, variant


def settings(spec: str) -> dict[str, Any]:
    """The options of mdlm-prepare that a protocol fixes, by their names in the parsed arguments."""
    name, variant_name = parts(spec)
    data, variant = DATA_SETS[name], VARIANTS[variant_name]
    replayed = data.wrap and variant.map_batch > 0
    fixed = {
        "length": data.length,
        "wrap": data.wrap,
        "detokenizer": data.detokenizer,
        "documents": data.documents,
        "keep_newline": data.keep_newline,
        "strip": data.strip,
        "field": data.field,
        "source": data.source or name,
        "eos_is_bos": data.shares_eos and variant.map_batch > 0,
        "add_eos": variant.zero_shot_eos or not data.zero_shot,
        "add_special": name not in variant.unframed,
        "map_batch": variant.map_batch if replayed else 0,
    }
    if data.documents == "chunk":
        fixed["chunk"] = data.length
    return fixed if replayed else fixed | {"shards": 0}


def dataset_of(spec: str) -> str:
    """What `datasets` loads; "" for a data set that it has not."""
    return DATA_SETS[parts(spec)[0]].dataset


def check_vocabulary(spec: str, found: str, special: tuple[int, ...]) -> None:
    """The vocabulary of the protocol: by the hash of its definition, which gave it its name, and by its special ids."""
    name, _ = parts(spec)
    wanted = DATA_SETS[name].tokenizer
    require(found == wanted, f"--protocol {spec}: the tokenizer is {wanted}, not {found}")
    mask, bos, eos, pad = SPECIAL_IDS[wanted]
    ids = (mask, bos, bos if settings(spec)["eos_is_bos"] else eos, pad)
    require(special == ids, f"--protocol {spec}: mask, bos, eos, pad are {ids}, not {special}")
