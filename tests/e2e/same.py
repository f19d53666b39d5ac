#!/usr/bin/env python3
"""same.py A B [--close R] [--rows] [NAME…] [and A B …] — whether the named groups and data sets of two HDF5 files are the
same; with `and`, those of several pairs.

The same means: the same names, types, shapes and bits. --close R: values may differ by less than R, relative in the
2-norm. --rows: each group is a table of metrics: steps ascend strictly, and columns that depend on the clock are left
out. The name @X is the attribute X of the file.
With --serve the arguments of one comparison after the other are lines of standard input, with tabs between; each answer
ends with a line "end CODE".
Without names: A and B are folders of the same HDF5 files, and every data set and numeric attribute of A's files is the
same in B's, except columns that depend on the clock."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

import h5py
import numpy as np

TIMES = {"tokens_per_s", "mfu", "seconds", "step_median", "step_slowest", "slowest_rank"}


def main() -> int:
    if sys.argv[1:] != ["--serve"]:
        return answer(sys.argv[1:])
    for line in sys.stdin:
        code: object = 1
        try:
            code = answer(line.rstrip("\n").split("\t"))
        except SystemExit as e:
            code = e.code
        except Exception:
            traceback.print_exc(file=sys.stdout)
        print("end", code, flush=True)
    return 0


def answer(arguments: list[str]) -> int:
    faults = []
    while arguments:
        end = arguments.index("and") if "and" in arguments else len(arguments)
        faults += faults_of(arguments[:end])
        arguments = arguments[end + 1 :]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def faults_of(arguments: list[str]) -> list[str]:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("a")
    p.add_argument("b")
    p.add_argument("names", nargs="*")
    p.add_argument("--close", type=float, default=0.0)
    p.add_argument("--rows", action="store_true")
    o = p.parse_args(arguments)
    if not o.names:
        return compare_folders(Path(o.a), Path(o.b), o.close)
    with h5py.File(o.a, "r") as a, h5py.File(o.b, "r") as b:
        return [fault for name in o.names for fault in compare(a, b, name, o)]


def compare_folders(a: Path, b: Path, close: float) -> list[str]:
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*.h5")} for folder in (a, b)]
    faults = [f"{name}: only in {a if name in files[0] else b}" for name in sorted(files[0] ^ files[1])]
    for name in sorted(files[0] & files[1]):
        old, new = contents(a / name), contents(b / name)
        for key, value in old.items():
            faults += [
                f"{name}: {f}" for f in (values(key, value, new[key], close) if key in new else [f"no {key} in {b}"])
            ]
    if not files[0]:
        faults.append(f"no HDF5 files in {a}")
    return faults


def contents(path: Path) -> dict[str, np.ndarray]:
    """All data sets and numeric attributes, by name."""
    found = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and name.rpartition("/")[2] not in TIMES:
            found[name] = item[()]
        found.update({f"{name}@{key}": np.asarray(x) for key, x in item.attrs.items() if not isinstance(x, str)})

    with h5py.File(path, "r") as f:
        add("", f)
        f.visititems(add)
    return found


def compare(a: h5py.File, b: h5py.File, name: str, o: argparse.Namespace) -> list[str]:
    if name.startswith("@"):
        return values(name, np.asarray(a.attrs[name[1:]]), np.asarray(b.attrs[name[1:]]), o.close)
    for f in (a, b):
        if name not in f:
            return [f"{f.filename}: no {name}"]
    if isinstance(a[name], h5py.Dataset):
        return values(name, a[name][()], b[name][()], o.close)
    if not len(a[name]) or set(a[name]) != set(b[name]):
        return [f"{name}: {sorted(a[name])} and {sorted(b[name])}"]
    keys = [k for k in a[name] if not (o.rows and k in TIMES)]
    faults = [fault for k in keys for fault in values(f"{name}/{k}", a[name][k][()], b[name][k][()], o.close)]
    for f in (a, b):
        if o.rows and not (len(f[name]["step"]) and np.all(np.diff(f[name]["step"]) > 0)):
            faults.append(f"{f.filename}: {name}/step is {f[name]['step'][()]}")
    return faults


def values(name: str, a: np.ndarray, b: np.ndarray, close: float) -> list[str]:
    if a.dtype != b.dtype or a.shape != b.shape:
        return [f"{name}: {a.dtype}{a.shape} and {b.dtype}{b.shape}"]
    if a.dtype == object:  # text
        return [] if a.tolist() == b.tolist() else [f"{name}: differs in {np.sum(a != b)} of {a.size} texts"]
    if a.tobytes() == b.tobytes():
        return []
    apart = np.linalg.norm((a.astype("f8") - b).ravel()) / np.linalg.norm(b.astype("f8").ravel())
    if apart < close:
        return []
    return [f"{name}: differs in {np.sum(a != b)} of {a.size} values, by {apart:.2g}"]


if __name__ == "__main__":
    sys.exit(main())
