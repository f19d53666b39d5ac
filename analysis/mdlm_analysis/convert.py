"""mdlm-convert: weights of other programs to checkpoints of mdlm, and back; the command line.

Other programs: GPT-2 as Hugging Face distributes it (safetensors), and the networks of the MDLM reference, from its hub
(safetensors) or a Lightning .ckpt. Parameter names differ only by prefixes, tied copies and buffers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.errors import InputError, require

PROGRAM = "mdlm-convert"

NOTES = """\
examples:
  mdlm-convert import gpt2-large/model.safetensors gpt2_large.h5 --tokenizer gpt2:vocab.json,merges.txt
  mdlm score deck.cfg score.checkpoint=gpt2_large.h5
  mdlm-convert import mdlm-owt/model.safetensors mdlm_owt.h5 --tokenizer gpt2:vocab.json,merges.txt --length 1024
  mdlm-convert import best.ckpt sedd.h5 --tokenizer data:train.h5 --objective sedd --time-conditioning --length 128
  mdlm-convert export runs/demo/best.h5 demo.safetensors

The number of heads cannot be read from the weights. Exit status: 0; 2 after an error; 130 when interrupted."""


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    o = parse(argv)
    from mdlm_analysis.export_weights import export_weights
    from mdlm_analysis.import_weights import import_weights

    try:
        print((import_weights if o.action == "import" else export_weights)(o))
    except KeyError as e:
        raise InputError(f"{o.source}: a part is missing: {e.args[0]}") from e


def parser() -> Parser:
    p = Parser(
        prog=PROGRAM,
        description="Convert weights between other programs' files and checkpoints of mdlm.",
        epilog=NOTES,
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="import|export")
    g = actions.add_parser("import", help="safetensors or .ckpt → checkpoint")
    g.add_argument("source", type=Path, metavar="WEIGHTS", help=".safetensors, or a PyTorch file: .ckpt, .pt, .bin")
    g.add_argument("target", type=Path, metavar="CHECKPOINT.h5")
    g.add_argument("--tokenizer", required=True, metavar="KIND:…", help="tokenizer of the weights, as in mdlm-prepare")
    g.add_argument("--heads", type=int, metavar="H", help="attention heads (default: width / 64)")
    g.add_argument("--length", type=int, metavar="L", help="sequence length (default: 1024; gpt2: from the file)")
    g.add_argument("--objective", choices=("subs", "d3pm", "sedd", "ar"), help="(default: subs; gpt2 and ar: ar)")
    g.add_argument("--time-conditioning", action="store_true", help="the network takes the noise level as input")
    g = actions.add_parser("export", help="checkpoint → safetensors")
    g.add_argument("source", type=Path, metavar="CHECKPOINT.h5")
    g.add_argument("target", type=Path, metavar="OUT.safetensors")
    g.add_argument("--weights", choices=("ema", "live"), default="ema", help="(default: ema)")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    o = parser().parse_args(argv)
    for name in ("heads", "length"):
        require(getattr(o, name, None) is None or getattr(o, name) > 0, f"--{name}: must be positive")
    check_paths([str(o.target)], [str(o.source)])
    return o


if __name__ == "__main__":
    sys.exit(main())
