"""Contexts with continuations to a file of requests (src/store/requests.h): the work of mdlm-tasks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np

from mdlm_data.command import warn
from mdlm_data.errors import InputError, reason, require
from mdlm_data.output import replacing
from mdlm_data.seal import seal_append
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary
from mdlm_data.vocabulary_group import set_attributes


@dataclass(frozen=True)
class Request:
    """A continuation to be scored: option number `question` of …; gold None: nobody says whether it is right."""

    context: str
    continuation: str
    question: int
    gold: bool | None = None


@dataclass(frozen=True)
class Tokens:
    """An encoded request; bytes: of the text that the target stands for."""

    context: Sequence[int]
    target: Sequence[int]
    bytes: int


def make_requests(o: argparse.Namespace, command: str) -> None:
    vocabulary = make_vocabulary(f"data:{o.data}")
    requests = list(read(o.inputs, o.delimiter))
    require(requests, "there is no request: give one JSON object per line")
    tokens = encode(requests, vocabulary, o.bos)
    write_requests(o.out, tokens, vocabulary, command, [r.question for r in requests], [r.gold for r in requests])
    report(requests, tokens, vocabulary, o)


# ---- reading
def read(paths: Iterable[str], delimiter: str) -> Iterator[Request]:
    question = 0
    for path in paths:
        for number, line in enumerate(lines(path), 1):
            if not line.strip():
                continue
            try:
                options = list(parse_line(line, delimiter))
                for context, continuation, _ in options:
                    (context + continuation).encode()  # half a surrogate pair is a ValueError
            except (ValueError, TypeError, KeyError, InputError) as e:
                raise InputError(f"{path}: line {number}: {told(e)}") from e
            for context, continuation, gold in options:
                yield Request(context, continuation, question, gold)
            question += 1


def told(e: Exception) -> str:
    if isinstance(e, KeyError):
        return f"there is no {e}: give context and continuation, or question, choices and gold"
    return f"is no JSON ({e})" if isinstance(e, json.JSONDecodeError) else str(e)


def lines(path: str) -> Iterator[str]:
    try:
        if path == "-":
            yield from sys.stdin
        else:
            with open(path, encoding="utf-8") as f:
                yield from f
    except (OSError, UnicodeError) as e:
        raise InputError(f"{path}: cannot read it: {reason(e)}") from e


Option = tuple[str, str, bool | None]


def parse_line(line: str, delimiter: str) -> Iterator[Option]:
    item = json.loads(line)
    require(isinstance(item, dict), "is no JSON object")
    if "arguments" in item:
        yield from harness_pairs(item)
    elif "choices" in item:
        yield from choices(item, delimiter)
    else:
        yield text(item["context"]), nonempty(item["continuation"]), None


def choices(item: dict[str, Any], delimiter: str) -> Iterator[Option]:
    question = text(item["question"] if "question" in item else item["context"])
    gold, options = item["gold"], item["choices"]
    require(isinstance(options, list) and len(options) > 1, "choices is no list of at least two texts")
    require(type(gold) is int and 0 <= gold < len(options), f"gold is {gold!r}: it must be 0 to {len(options) - 1}")
    for i, choice in enumerate(options):
        yield question, (delimiter if question else "") + nonempty(choice), i == gold


def harness_pairs(item: dict[str, Any]) -> Iterator[Option]:
    """The requests of a document in a dump of lm-evaluation-harness."""
    arguments = item["arguments"]
    pairs = [list(a.values()) for a in arguments.values()] if isinstance(arguments, dict) else arguments
    for pair in pairs:
        good = isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        require(good, "the harness asked for something else than the likelihood of a continuation")
    gold = gold_of(item.get("target"), [pair[1] for pair in pairs])
    for i, (context, continuation) in enumerate(pairs):
        yield context, nonempty(continuation), None if gold is None else i == gold


def gold_of(target: Any, options: list[str]) -> int | None:
    """Which option the harness calls the right one, by number or by its text."""
    if len(options) < 2:
        return None
    number = int(target) if isinstance(target, (int, str)) and str(target).isdecimal() else -1
    if 0 <= number < len(options):
        return number
    equal = [i for i, option in enumerate(options) if isinstance(target, str) and option.strip() == target.strip()]
    require(len(equal) == 1, f"target is {target!r}: neither the number of an option nor its text")
    return equal[0]


def text(value: Any) -> str:
    require(isinstance(value, str), f"{value!r} is no text")
    return value


def nonempty(value: Any) -> str:
    require(text(value), "a continuation is empty")
    return value


# ---- tokens
def encode(requests: Sequence[Request], v: Vocabulary, bos: bool) -> list[Tokens]:
    pairs = [split(r.context, r.continuation) for r in requests]
    begin = [v.bos] if bos and v.bos >= 0 else []
    befores = v.encode([context for context, _ in pairs])
    wholes = v.encode([context + continuation for context, continuation in pairs])
    found = []
    for i, (before, whole) in enumerate(zip(befores, wholes)):
        if len(whole) <= len(before):  # the last token of the context swallows the target
            whole = np.concatenate([before, v.encode([pairs[i][1]])[0]])
        require(len(whole) > len(before), f"request {i}: {requests[i].continuation!r} has no token")
        target = [int(t) for t in whole[len(before) :]]
        require(v.mask not in target, f"request {i}: {requests[i].continuation!r} encodes to the mask token")
        size = len(requests[i].continuation.lstrip().encode()) or len(requests[i].continuation.encode())
        found.append(Tokens([*begin, *(int(t) for t in whole[: len(before)])], target, size))
    return found


def split(context: str, continuation: str) -> tuple[str, str]:
    """Blanks at the end of the context belong to the tokens of the continuation."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


# ---- the file
def write_requests(
    path: str,
    requests: Sequence[Tokens],
    v: Vocabulary,
    command: str,
    questions: Sequence[int] | None = None,
    gold: Sequence[bool | None] | None = None,
) -> None:
    sizes = [len(r.context) + len(r.target) for r in requests]
    series = {
        "tokens": (np.array([t for r in requests for t in (*r.context, *r.target)], np.int32), "context, then target"),
        "offset": (np.cumsum([0, *sizes[:-1]], dtype=np.int64), "where a request begins in tokens"),
        "context_length": (np.array([len(r.context) for r in requests], np.int64), "tokens of the context"),
        "target_length": (np.array([len(r.target) for r in requests], np.int64), "tokens of the target"),
        "bytes": (np.array([r.bytes for r in requests], np.int64), "of the target's text"),
    }
    if questions is not None:
        series["option_of"] = np.array(questions, np.int64), "the question that this target is an option of"
    if gold is not None and any(g is not None for g in gold):
        series["gold"] = np.array([bool(g) for g in gold], np.int8), "1: the right option of its question"
    attributes = {
        "format": "mdlm-requests",
        "format_version": 1,
        "tokenizer": v.name,
        "tokenizer_hash": v.hash,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        with replacing(path) as partial:
            with h5py.File(partial, "w", locking=False) as f:
                for name, (values, description) in series.items():
                    f[f"requests/{name}"] = values
                    f[f"requests/{name}"].attrs["description"] = description
                set_attributes(f, attributes)
            seal_append(partial)
    except (OSError, RuntimeError) as e:
        raise InputError(f"{path}: cannot write it: {reason(e)}") from e


def report(requests: Sequence[Request], tokens: Sequence[Tokens], v: Vocabulary, o: argparse.Namespace) -> None:
    if v.unknown is not None:
        unknown = [i for i, t in enumerate(tokens) if v.unknown in t.context or v.unknown in t.target]
        if unknown:
            warn(o.program, f"request {unknown[0]} has text that is unknown to the vocabulary {v.name}")
    if o.quiet:
        return
    longest = max(len(t.context) + len(t.target) for t in tokens)
    questions = len({r.question for r in requests})
    print(f"{o.out}: {len(requests)} requests of {questions} questions, of at most {longest} tokens")
