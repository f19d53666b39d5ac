"""A function over a sequence in several processes: results in order, so that they do not depend on the processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from multiprocessing.connection import Connection
from typing import Any

from mdlm_data.errors import InputError

ALONE = 4  # items that the calling process works on before it starts others


def in_processes(function: Callable[[Any], Any], items: Iterable[Any], processes: int) -> Iterator[Any]:
    """function(item) for each item. The function is sent to the other processes; each holds one item at a time."""
    left = iter(items)
    yield from map(function, islice(left, None if processes < 2 else ALONE))
    first = list(islice(left, 1))
    if not first:
        return
    workers = [Worker(function) for _ in range(processes)]
    try:
        busy: list[Worker] = []
        for worker, item in zip(workers, chain(first, left)):
            worker.send(item)
            busy.append(worker)
        while busy:
            worker = busy.pop(0)
            result = worker.receive()
            for item in islice(left, 1):
                worker.send(item)
                busy.append(worker)
            yield result
    finally:
        for worker in workers:
            worker.stop()


class Worker:
    """A process, which ends when this one does: its pipe is closed then."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.send(function)

    def send(self, item: Any) -> None:
        try:
            self.pipe.send(item)
        except OSError as e:
            raise self._lost() from e

    def receive(self) -> Any:
        try:
            result = self.pipe.recv()
        except (EOFError, OSError) as e:
            raise self._lost() from e
        if isinstance(result, Exception):
            raise result
        return result

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(10)

    def _lost(self) -> InputError:
        return InputError("a process of --processes has ended early, perhaps for lack of memory; use fewer")


def _work(pipe: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the calling process ends this one
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with suppress(EOFError, OSError):
        function = pipe.recv()
        while True:
            item = pipe.recv()
            try:
                result = function(item)
            except Exception as e:
                result = e
            pipe.send(result)
