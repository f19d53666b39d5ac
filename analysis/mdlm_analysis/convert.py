"""mdlm-convert: weights of other programs to checkpoints of mdlm, and back; the command line.

Other programs: GPT-2 as Hugging Face distributes it, and the networks of MDLM, BD3-LM, UDLM and Duo, from their hub
folders or a Lightning .ckpt. Parameter names differ only by prefixes, tied copies and buffers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.errors import InputError, require

PROGRAM = "mdlm-convert"
SCHEDULES = ("loglinear", "linear", "geometric", "cosine", "cosinesqr")
FLAGS = {
    "--time-conditioning": "the network takes the noise level as input",
    "--subs-masking": "d3pm: the mask has no probability",
    "--change-of-variables": "subs: the log-probability of being masked is uniform in t",
    "--importance-sampling": "subs: times drawn for a constant weight",
}

NOTES = """\
examples:
  mdlm-convert import gpt2-large/ gpt2_large.h5 --tokenizer gpt2:vocab.json,merges.txt
  mdlm score gpt2_large.cfg score.checkpoint=gpt2_large.h5
  mdlm-convert import mdlm-owt/ mdlm_owt.h5 --tokenizer gpt2:vocab.json,merges.txt
  mdlm eval mdlm_owt.cfg eval.checkpoint=mdlm_owt.h5 eval.data=valid.h5 eval.output=eval.h5
  mdlm-convert import bd3lm-owt-block_size4/ bd3lm.h5 --tokenizer gpt2:vocab.json,merges.txt
  mdlm sample bd3lm.cfg sample.checkpoint=bd3lm.h5 sample.nucleus=0.9 sample.output=samples.h5
  mdlm-convert import best.ckpt sedd.h5 --tokenizer data:train.h5
  mdlm-convert export runs/demo/best.h5 demo/     (model.safetensors and config.json)
  mdlm-convert export runs/demo/best.h5 demo.ckpt

Exit status: 0; 2 after an error; 130 when interrupted."""


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, job, argv)


def job(argv: list[str]) -> None:
    o = parse(argv)
    from mdlm_analysis.export_weights import export_weights
    from mdlm_analysis.import_weights import import_weights
    from mdlm_h5 import FormatError

    try:
        print((import_weights if o.action == "import" else export_weights)(o))
    except FormatError as e:
        raise InputError(str(e)) from e


def parser() -> Parser:
    p = Parser(
        prog=PROGRAM,
        description="Convert weights between other programs' files and checkpoints of mdlm.",
        epilog=NOTES,
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="import|export")
    g = actions.add_parser("import", help="weights of other programs → checkpoint and deck")
    g.set_defaults(program=PROGRAM)
    g.add_argument(
        "source",
        type=Path,
        metavar="WEIGHTS",
        help="a hub's folder, .safetensors, a PyTorch file (.ckpt, .pt, .pth, .bin) or an index.json of shards",
    )
    g.add_argument("target", type=Path, metavar="CHECKPOINT.h5")
    g.add_argument("--tokenizer", required=True, metavar="KIND:…", help="tokenizer of the weights, as in mdlm-prepare")
    g.add_argument("--deck", type=Path, metavar="DECK.cfg", help="(default: CHECKPOINT.cfg)")
    g.add_argument("--cut-vocabulary", type=int, metavar="N", help="keep the first N tokens; the rest is padding")
    g = g.add_argument_group(
        "settings",
        "They come from config.json beside the weights or from a .ckpt's hyper-parameters; give what those do not tell.",
    )
    g.add_argument("--heads", type=int, metavar="H", help="attention heads")
    g.add_argument("--length", type=int, metavar="L", help="sequence length (gpt2: from the weights)")
    g.add_argument("--objective", choices=("subs", "d3pm", "sedd", "uniform", "ar"))
    g.add_argument("--block", type=int, metavar="N", help="block diffusion: tokens of a block (0: none)")
    g.add_argument(
        "--T", type=int, metavar="T", help="diffusion steps of the bound, which d3pm needs; 0: continuous time"
    )
    g.add_argument("--schedule", choices=SCHEDULES, help="noise schedule (default: loglinear)")
    for name, meaning in FLAGS.items():
        g.add_argument(name, action=argparse.BooleanOptionalAction, help=meaning)
    g = actions.add_parser("export", help="checkpoint → weights and config.json, or a Lightning checkpoint")
    g.set_defaults(program=PROGRAM)
    g.add_argument("source", type=Path, metavar="CHECKPOINT.h5")
    g.add_argument("target", type=Path, metavar="OUT", help="a folder as a hub has it, .safetensors or .ckpt")
    g.add_argument("--weights", choices=("ema", "live"), default="ema", help="(default: ema; a .ckpt has both)")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    o = parser().parse_args(argv)
    for name in ("heads", "length", "cut_vocabulary"):
        require(getattr(o, name, None) is None or getattr(o, name) > 0, f"--{name.replace('_', '-')}: must be positive")
    if o.action == "import":
        for name in ("T", "block"):
            require(getattr(o, name) is None or getattr(o, name) >= 0, f"--{name}: must not be negative")
        o.deck = o.deck or o.target.with_suffix(".cfg")
        check_paths([str(o.target), str(o.deck)], [str(o.source)])
    else:
        folder = o.target.suffix not in (".safetensors", ".ckpt")
        require(not o.target.is_file() or not folder, f"{o.target}: name OUT.safetensors, OUT.ckpt or a folder")
        check_paths([str(o.target)] if not o.target.is_dir() else [], [str(o.source)])
    return o


if __name__ == "__main__":
    sys.exit(main())
