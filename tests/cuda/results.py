#!/usr/bin/env python3
"""results.py — the figures of bench.sh and first.sh: one JSON object from their lines, shares of the ceilings, tables.

    results.py LINES… --out FILE           LINES: folders written by bench.sh and run.sh, results.jsonl of first.sh; prints
                                           the tables
    results.py --markdown FILE             the tables of a result, or of results.jsonl, as Markdown, for tests/gpu-results.md
    results.py --kernels SHAPE FILE        a line for each kernel of the last whole step in the table that ncu --csv wrote
    results.py --machine TEXT TEXT [TEXT]  a line about the machine: the program's versions; the GPU's fields in the order of
                                           GPU, separated by commas; the CUDA libraries that were found

The floor of an op is the time of its bytes at the speed of the copy, or of its operations at that of the large product,
whichever is longer. The floor of a step is the sum over its ops. Names of results contain the unit: _s, _bytes,
tflops, gb_per_s. PyTorch's steps are compared with mdlm's steps with device.deterministic = false, if there are any.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import platform
import sys
from pathlib import Path

GPU = ("gpu", "driver", "memory", "most_sm_clock", "most_memory_clock", "power_limit")


def machine(versions: str, gpu: str, libraries: str = "") -> dict:
    fields = [x.strip() for x in gpu.split(",")]
    return dict(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **dict(zip(GPU, fields + [""] * (3 - len(fields)))),
        host=platform.machine(),
        python=platform.python_version(),
        program=[line.strip() for line in versions.splitlines() if line.strip()],
        libraries=[line.strip() for line in libraries.splitlines() if line.strip()],
    )


def kernels(shape: str, path: str) -> list[dict]:
    """Number and time of each kernel's launches in the last whole step, the longest first. AdamW ends a step."""
    lines = Path(path).read_text(errors="replace").splitlines()
    table = csv.DictReader(x for x in lines if x.startswith('"'))
    launches = [(x["Kernel Name"], float(x["Metric Value"].replace(",", "")) * 1e-9) for x in table]
    ends = [i for i, (name, _) in enumerate(launches) if "adamw" in name]
    if len(ends) < 2:
        raise SystemExit(f"results.py: {path}: {len(launches)} launches without two whole steps")
    sums: dict[str, list[float]] = {}
    for name, seconds in launches[ends[-2] + 1 : ends[-1] + 1]:
        sums.setdefault(name, []).append(seconds)
    rows = [dict(shape=shape, kernel=k, launches=len(v), seconds=sum(v)) for k, v in sums.items()]
    return sorted(rows, key=lambda x: -x["seconds"])


def rows_of(path: Path) -> list[tuple[str, str, object]]:
    """Stage, part and figures of each whole line: of first.sh's file as they are written there, else of part path.name."""
    lines = path.read_text(errors="replace").splitlines()
    if path.name == "check":
        return [("", "check", line) for line in lines]
    rows = []
    for line in lines:
        try:
            x = json.loads(line)
        except ValueError:  # cut off
            continue
        rows.append((x["stage"], x["part"], x["figures"]) if path.suffix == ".jsonl" else ("", path.name, x))
    return rows


def read(sources: list[str]) -> dict:
    result: dict = {}
    lists: dict = dict(ops=[], kernels=[], steps=[], peer=[], samples=[], clocks=[], stages=[])
    tap: list[str] = []
    notes: list[str] = []  # of the stage under way
    for source in map(Path, sources):
        for path in [source] if source.is_file() else sorted(source.iterdir()):
            for stage, part, x in rows_of(path):
                if part == "machine":
                    result |= x
                elif part == "check":
                    tap.append(x)
                elif part == "note":
                    notes.append(x)
                elif part == "stage":
                    lists["stages"].append(dict(stage=stage, notes=notes) | x)
                    notes = []
                elif part == "steps" and "step_s" not in x:  # evaluation, after the steps of the same network
                    lists["steps"][-1:] = [y | x for y in lists["steps"][-1:]]
                else:
                    lists[part].append(x)
    return result | lists | (dict(check=counted(tap)) if tap else {})


def counted(tap: list[str]) -> dict:
    """The lines of check.sh: how many passed, which failed, which were skipped and why."""
    results = [line for line in tap if line.startswith(("ok ", "not ok ", "Bail out!"))]
    skipped = [line for line in results if "# SKIP" in line]
    failed = [line for line in results if not line.startswith("ok ")]
    return dict(passed=len(results) - len(skipped) - len(failed), failed=failed, skipped=skipped)


def ceilings(ops: list[dict]) -> dict:
    """Bytes per second of the copy; operations per second of the large product, for each type of its factors."""
    best: dict = {}
    for x in ops:
        if x["op"] == "copy":
            best["copy"] = max(best.get("copy", 0), x["bytes"] / x["seconds"])
        if x["op"] == "product":
            best[x["matmul"]] = x["flops"] / x["seconds"]
    return best


def judge(result: dict) -> dict:
    best = ceilings(result["ops"])
    result["ceilings"] = {
        "copy_gb_per_s": best.get("copy", 0) / 1e9,
        **{f"product_{k}_tflops": v / 1e12 for k, v in best.items() if k != "copy"},
    }
    for x in result["ops"]:
        x |= dict(tflops=x["flops"] / x["seconds"] / 1e12, gb_per_s=x["bytes"] / x["seconds"] / 1e9)
        if "copy" in best and x["matmul"] in best:
            x["floor_s"] = max(x["bytes"] / best["copy"], x["flops"] / best[x["matmul"]])
            x["share"] = x["floor_s"] / x["seconds"]
    for x in result["steps"]:
        products = x["flops"]["dense"] + x["flops"]["attention"]
        x["tflops"] = products / x["step_s"] / 1e12
        if "copy" in best and x["matmul"] in best:
            moved = sum(x["bytes"].values())
            x["floor_s"] = products / best[x["matmul"]] + moved / best["copy"]
            x["share"] = x["floor_s"] / x["step_s"]
    for x in result["peer"]:
        ours = [
            s
            for s in result["steps"]
            if (s["shape"], s["matmul"], s["network"], s["objective"], s["ranks"])
            == (x["shape"], x["matmul"], "dit", "subs", 1)
        ]
        ours.sort(key=lambda s: (s.get("deterministic", True), -s["micros"]))
        if ours:
            x["ours_to_theirs"] = ours[0]["tokens_per_s"] / x["tokens_per_s"]
            if "peak_bytes" in x:
                x["our_memory_to_theirs"] = ours[0]["allocated_bytes"] / x["peak_bytes"]
    return result


def number(x: object, scale: float = 1, digits: int = 2) -> str:
    return f"{x / scale:,.{digits}f}" if isinstance(x, (int, float)) else ""


def kernel_rows(kernels: list[dict]) -> list[list[str]]:
    """The kernels that take 1 % of a shape's time or more, and the sum of the others."""
    rows = []
    for shape in dict.fromkeys(x["shape"] for x in kernels):
        mine = [x for x in kernels if x["shape"] == shape]
        total = sum(x["seconds"] for x in mine)
        small = [x for x in mine if x["seconds"] < 0.01 * total]
        others = dict(kernel=f"{len(small)} others", launches=sum(x["launches"] for x in small))
        others["seconds"] = sum(x["seconds"] for x in small)
        for x in [x for x in mine if x not in small] + [others]:
            share = number(x["seconds"] / total, 1e-2, 1)
            rows.append([shape, x["kernel"], str(x["launches"]), number(x["seconds"], 1e-3, 3), share])
    return rows


def tables(r: dict) -> list[tuple[str, list[str], list[list[str]]]]:
    ops = [
        [
            x["op"],
            x["matmul"],
            number(x["seconds"], 1e-3, 3),
            number(x["tflops"], digits=1),
            number(x["gb_per_s"], digits=0),
            number(x.get("share")),
        ]
        for x in r["ops"]
    ]
    kernels = kernel_rows(r["kernels"])
    steps = [
        [
            f"{x['shape']}, {x['network']}/{x['objective']}",
            x["matmul"],
            str(x["ranks"]),
            f"{x['batch']} × {x['micros']}",
            {True: "yes", False: "no"}.get(x.get("deterministic"), ""),
            x.get("attention", ""),
            number(x["step_s"], 1e-3),
            number(x["tokens_per_s"], digits=0),
            number(x["tflops"], digits=1),
            number(x.get("share")),
            number(x["allocated_bytes"], 2**30),
            number(x.get("look_1_s"), 1e-3),
            f"{number(x['look_batch_s'], 1e-3)} ({x['look_batch']})" if "look_batch_s" in x else "",
        ]
        for x in r["steps"]
    ]
    samples = [
        [
            f"{x['samples']} of {x['length']} tokens, {x['shape']}",
            f"{x['sampler']}, {x['sampler_steps']} steps",
            number(x["seconds"]),
            number(x["samples"] * x["length"] / x["seconds"], digits=0),
            str(x["passes"]),
            str(x["sequences"]),
            number(x["allocated_bytes"], 2**30),
        ]
        for x in r["samples"]
    ]
    stages = [
        [x["stage"], x["verdict"], number(x["seconds"], digits=1), number(x["cap"], digits=1), "; ".join(x["notes"])]
        for x in r["stages"]
    ]
    clocks = [[x["when"], x["sm_mhz"], x["memory_mhz"], x["power_w"], x["celsius"]] for x in r["clocks"]]
    peer = [
        [
            x["shape"],
            f"{x['mode']}, {x['head']} head",
            f"{x['batch']} × {x['micros']}",
            number(x["step_s"], 1e-3),
            number(x["tokens_per_s"], digits=0),
            number(x.get("peak_bytes"), 2**30),
            number(x.get("ours_to_theirs")),
            number(x.get("our_memory_to_theirs")),
            number(x.get("look_1_s"), 1e-3),
            number(x.get("look_batch_s"), 1e-3),
        ]
        for x in r["peer"]
    ]
    return [
        ("Stages", ["stage", "verdict", "s", "cap, s", "why"], stages),
        ("Ops", ["op", "products in", "ms", "TFLOP/s", "GB/s", "floor / time"], ops),
        ("Kernels of a step, one by one", ["shape", "kernel", "launches", "ms", "%"], kernels),
        (
            "Training steps",
            [
                "shape",
                "products in",
                "ranks",
                "micro-batch × number",
                "deterministic",
                "attention",
                "step, ms",
                "tokens/s",
                "TFLOP/s",
                "floor / time",
                "memory, GiB",
                "one sequence, ms",
                "a batch, ms (sequences)",
            ],
            steps,
        ),
        (
            "PyTorch",
            [
                "shape",
                "variant",
                "micro-batch × number",
                "step, ms",
                "tokens/s",
                "memory, GiB",
                "our tokens/s to theirs",
                "our memory to theirs",
                "one sequence, ms",
                "a batch, ms",
            ],
            peer,
        ),
        ("Samples", ["what", "sampler", "s", "tokens/s", "passes", "sequences in them", "memory, GiB"], samples),
        ("Clocks in the stage headline", ["when", "SM, MHz", "memory, MHz", "W", "°C"], clocks),
    ]


def head(r: dict) -> str:
    c = r["ceilings"]
    most = [r[k] for k in GPU[2:] if r.get(k)]
    return (
        f"{r.get('date') or 'no date'}: {r.get('gpu') or 'no GPU'}, driver {r.get('driver') or 'none'}"
        + (f" ({', '.join(most)} at most)" if most else "")
        + f". A copy reaches "
        f"{number(c['copy_gb_per_s'], digits=0)} GB/s"
        + "".join(
            f", a product in {k} {number(c[f'product_{k}_tflops'], digits=1)} TFLOP/s"
            for k in ("bf16", "f32")
            if f"product_{k}_tflops" in c
        )
        + ". "
        + "; ".join(r.get("program", []))
        + (
            f". Checks: {r['check']['passed']} passed, {len(r['check']['failed'])} failed, {len(r['check']['skipped'])} skipped"
            if "check" in r
            else ""
        )
    )


def markdown(r: dict) -> str:
    text = [f"## {head(r)}", ""]
    for title, columns, rows in tables(r):
        if rows:
            cells = [[x.replace("|", "/") for x in row] for row in [columns, ["---"] * len(columns), *rows]]
            text += [f"### {title}", ""] + ["| " + " | ".join(x) + " |" for x in cells] + [""]
    bad = r["check"]["failed"] + r["check"]["skipped"] if "check" in r else []
    for title, lines in (("Checks that failed or were skipped", bad), ("CUDA libraries", r.get("libraries", []))):
        if lines:
            text += [f"### {title}", "", *(f"    {line}" for line in lines), ""]
    return "\n".join(text)


def plain(r: dict) -> str:
    text = [head(r)]
    for title, columns, rows in tables(r):
        if rows:
            width = [max(len(x[i]) for x in [columns, *rows]) for i in range(len(columns))]
            text += ["", title] + [
                "  ".join(x.ljust(w) if i == 0 else x.rjust(w) for i, (x, w) in enumerate(zip(row, width)))
                for row in [columns, *rows]
            ]
    return "\n".join(text)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("lines", nargs="*")
    p.add_argument("--out")
    p.add_argument("--markdown", metavar="FILE")
    p.add_argument("--kernels", nargs=2, metavar=("SHAPE", "FILE"))
    p.add_argument("--machine", nargs="+", metavar="TEXT")
    o = p.parse_args()
    if o.machine:
        print(json.dumps(machine(*o.machine)))
    elif o.kernels:
        for x in kernels(*o.kernels):
            print(json.dumps(x))
    elif o.markdown:
        lines = o.markdown.endswith(".jsonl")
        print(markdown(judge(read([o.markdown])) if lines else json.loads(Path(o.markdown).read_text())))
    else:
        result = judge(read(o.lines))
        Path(o.out).write_text(json.dumps(result, indent=1) + "\n")
        print(plain(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
