"""The section of a report on samples: those drawn during training, always of the same noise and prompts, and the files of
`mdlm sample`."""

from __future__ import annotations

import numpy as np

from mdlm_analysis.report_data import Contents
from mdlm_analysis.report_page import Block, Text, visible
from mdlm_h5 import Samples

MOST_TEXTS = 16  # samples shown of a file
MOST_DRAWN, MOST_STEPS = 4, 8  # of those of training: samples, and steps of each


def samples(runs: list[Contents]) -> list[Block]:
    blocks = [block for run in runs for block in _during_training(run)]
    for run in runs:
        for file, s in sorted(run.samples.items(), key=lambda item: item[1].attributes.get("step", 0)):
            blocks.append(_of_file(f"{run.name}: {file.name}", s, folded=bool(blocks)))
    return blocks


def _of_file(title: str, s: Samples, folded: bool) -> Block:
    a, n = s.attributes, len(s.text)
    words = [f"{n} samples of {s.tokens.shape[1]} tokens", f"sampler {a.get('sampler', '')}"]
    words += [f"{name} {a[name]}" for name in ("steps", "temperature", "nucleus", "step") if name in a]
    words += [f"mean entropy {np.mean(s.entropy):.3g} nat"] if n else []
    items = [Text(f"{k}; entropy {s.entropy[k]:.3g} nat", visible(text)) for k, text in enumerate(s.text[:MOST_TEXTS])]
    lines = ["; ".join(words) + (f". The first {MOST_TEXTS} are shown." if n > MOST_TEXTS else ".")]
    return Block(title, folded=folded, lines=lines, items=items)


def _during_training(run: Contents) -> list[Block]:
    """A block for each of the first samples, at steps from the first to the last."""
    if not run.drawn:
        return []
    shown = [run.drawn[k] for k in sorted({round(x) for x in np.linspace(0, len(run.drawn) - 1, MOST_STEPS)})]
    blocks = []
    for number in range(min(MOST_DRAWN, len(run.drawn[-1].text))):
        items = [Text(f"step {d.step:,}", visible(d.text[number])) for d in shown if number < len(d.text)]
        title = f"{run.name}: sample {number} during training"
        blocks.append(Block(title, folded=number > 0, lines=["Always of the same noise and prompt."], items=items))
    return blocks
