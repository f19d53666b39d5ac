"""What an exported network's configuration says: config.json of a hub, and the reference's in a Lightning checkpoint."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mdlm_h5
from mdlm_analysis.families import TIMED, Family
from mdlm_analysis.pytorch_write import Lazy
from mdlm_analysis.settings import REWEIGHTED
from mdlm_data.errors import InputError

MAKER = "mdlm-convert"  # in config.json: it may be replaced
DEFAULTS: dict[str, Any] = {"heads": 12, "mlp_ratio": 4, "dropout": 0.1, "time_conditioning": False, "T": 0}
DEFAULTS |= {"objective": "subs", "schedule": "loglinear", "subs_masking": False, "sigma_min": 1e-3, "sigma_max": 0.0}
DEFAULTS |= {
    "schedule_eps": 1e-3,
    "sampling_eps": 1e-3,
    "mask_padding": False,
    "block": 0,
    "time": "uniform",
} | dict.fromkeys(REWEIGHTED, False)


class Exported:
    """A checkpoint as the public code describes it."""

    def __init__(self, family: Family, c: mdlm_h5.Checkpoint, path: Path) -> None:
        self.family, self.checkpoint, self.path = family, c, path
        self.keys = DEFAULTS | c.deck.get("model", {}) | c.deck.get("diffusion", {})
        self.keys["importance_sampling"] |= self.keys["time"] == "importance"  # the public code's name, once ours too
        self.heads = int(self.keys["heads"])
        self.blocks, self.width = family.blocks(c.shapes), c.shapes[family.embedding][1]
        self.cond = c.shapes.get(TIMED, (128,))[0]

    def refuse(self) -> None:
        """Checkpoints whose weights mean nothing to the public code, though the names of their parameters are its own."""
        block, objective = self.keys["block"], self.keys["objective"]
        if block not in (0, self.checkpoint.length):  # one block that is the whole row is plain MDLM
            lacks = f"diffusion.block = {block}: the public code of MDLM has no block diffusion"
        elif objective == "uniform":
            lacks = f"diffusion.objective = {objective}: the public code of MDLM has no diffusion to uniform tokens"
        else:
            return
        raise InputError(f"{self.path}: {lacks}; such a checkpoint cannot be exported")

    def foreign(self) -> Iterator[str]:
        """Settings that the public code does not have, as sentences."""
        usual = {"mlp_ratio": 4, "schedule_eps": 1e-3, "mask_padding": False}
        for name, value in usual.items():
            if (
                self.family.name != "gpt2"
                and self.keys[name] != value
                and (name, self.family.name) != ("mlp_ratio", "dimamba")
            ):
                yield f"{name} is {self.keys[name]}, which public code does not have: there it is {value}"

    def ends(self) -> dict[str, float]:
        """sigma(0) and sigma(1) of the schedules that have them."""
        usual = {"linear": 7.0, "geometric": 1.0}.get(self.keys["schedule"])
        most = self.keys["sigma_max"] or usual
        return {"sigma_min": self.keys["sigma_min"], "sigma_max": most} if usual else {}

    def hub(self, vocab: int) -> dict[str, Any]:
        """config.json: GPT-2's, or that of the reference's hub model with what evaluation needs beyond it."""
        c, keys = self.checkpoint, self.keys
        if self.family.name == "gpt2":
            sizes = {"n_embd": self.width, "n_head": self.heads, "n_layer": self.blocks, "n_positions": c.length}
            sizes |= {"n_ctx": c.length, "n_inner": c.shapes["h.0.mlp.c_fc.bias"][0], "vocab_size": vocab}
            ends = {f"{role}_token_id": c.vocabulary.attributes[role] for role in ("bos", "eos")}
            usual = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new"}
            return usual | sizes | ends | {"layer_norm_epsilon": 1e-5, "torch_dtype": "float32", "made_by": MAKER}
        config = {"model_type": "mdlm", "network": self.family.name, "vocab_size": vocab, "model_length": c.length}
        config |= {"hidden_dim": self.width, "n_blocks": self.blocks, "n_heads": self.heads, "cond_dim": self.cond}
        config |= {"parameterization": keys["objective"]} | self.ends()
        names = ("dropout", "time_conditioning", "T", "schedule", "sampling_eps", "subs_masking", *REWEIGHTED)
        config |= {name: keys[name] for name in names}
        if self.family.name == "dit":
            code = {"AutoConfig": "configuration_mdlm.MDLMConfig", "AutoModelForMaskedLM": "modeling_mdlm.MDLM"}
            config["auto_map"] = {k: f"kuleshov-group/mdlm-owt--{v}" for k, v in code.items()}
            config["architectures"] = ["MDLM"]
        return config | {"return_dict": False, "torch_dtype": "float32", "made_by": MAKER}

    def configuration(self) -> dict[str, Any]:
        """The reference's: what decides the network and its evaluation."""
        keys = self.keys
        model = {"hidden_size": self.width, "n_blocks": self.blocks, "n_heads": self.heads, "cond_dim": self.cond}
        model |= {"length": self.checkpoint.length, "dropout": keys["dropout"], "scale_by_sigma": True}
        model |= {"ar": {"causal": True}, "dimamba": {"temb_strategy": "adaln"}}.get(self.family.name, {})
        model["tie_word_embeddings"] = False
        training = {name: keys[name] for name in ("sampling_eps", *REWEIGHTED)} | {"ema": self.decay()}
        config = {"diffusion": "absorbing_state", "backbone": self.family.name, "parameterization": keys["objective"]}
        config |= {name: keys[name] for name in ("time_conditioning", "T", "subs_masking")}
        return config | {"model": model, "noise": {"type": keys["schedule"]} | self.ends(), "training": training}

    def decay(self) -> float:
        return float(self.checkpoint.deck.get("train", {}).get("ema", 0.9999))

    def lightning(self, live: dict[str, Lazy], average: list[Lazy]) -> dict[str, Any]:
        """What the reference reads of a checkpoint; its data begin anew."""
        if self.family.name == "gpt2":
            raise InputError(f"{self.path}: gpt2 is no network of the reference, which reads .ckpt; export to a folder")
        step = self.checkpoint.step
        progress = {part: {"ready": 0, "started": 0, "processed": 0, "completed": 0} for part in ("total", "current")}
        loops = {"epoch_progress": progress, "epoch_loop.batch_progress": progress}
        loops |= {"state_dict": {}, "epoch_loop.state_dict": {"_batches_that_stepped": step}}
        return {
            "epoch": 0,
            "global_step": step,
            "pytorch-lightning_version": "2.2.1",
            "state_dict": OrderedDict(live),
            "loops": {"fit_loop": loops},
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [],
            "ema": {"decay": self.decay(), "num_updates": step, "shadow_params": average},
            "hyper_parameters": {"config": self.configuration()},
        }
