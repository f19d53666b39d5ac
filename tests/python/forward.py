"""The diffusion transformer in NumPy, float64, written from its formulas (arXiv:2212.09748, 2503.09573): an oracle for
imported weights that shares no code with ours.

Letters: B sequences, n tokens, V vocabulary, D width, H heads of width K, C width of the conditioning."""

from __future__ import annotations

import numpy as np

Tensors = dict[str, np.ndarray]


def transformer(w: Tensors, heads: int, ids: np.ndarray, position: np.ndarray, seen: np.ndarray, c: np.ndarray | None):
    """Logits [B,n,V] of ids [B,n] at these positions [n]; query i sees key j where seen[i,j]. c [B,C] is the
    conditioning; None: a network without."""
    x = w["vocab_embed.embedding"].astype("f8")[ids]
    for i in range(1 + max(int(k.split(".")[1]) for k in w if k.startswith("blocks."))):
        p = {k.removeprefix(f"blocks.{i}."): v.astype("f8") for k, v in w.items() if k.startswith(f"blocks.{i}.")}
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p, c, 6)
        y = modulated(x, p["norm1.weight"], shift1, scale1)
        x = x + gate1 * (attention(y @ p["attn_qkv.weight"].T, heads, position, seen) @ p["attn_out.weight"].T)
        y = modulated(x, p["norm2.weight"], shift2, scale2)
        y = gelu(y @ p["mlp.0.weight"].T + p["mlp.0.bias"]) @ p["mlp.2.weight"].T + p["mlp.2.bias"]
        x = x + gate2 * y
    p = {k.removeprefix("output_layer."): v.astype("f8") for k, v in w.items() if k.startswith("output_layer.")}
    shift, scale = modulation(p, c, 2)
    return modulated(x, p["norm_final.weight"], shift, scale) @ p["linear.weight"].T + p["linear.bias"]


def modulation(p: Tensors, c: np.ndarray | None, parts: int) -> list:
    """Shift, scale and gate twice, or shift and scale once, each [B,1,D]."""
    if c is None:
        return [0.0, 0.0, 1.0, 0.0, 0.0, 1.0][:parts]
    return np.split((c @ p["adaLN_modulation.weight"].T + p["adaLN_modulation.bias"])[:, None], parts, axis=-1)


def modulated(x: np.ndarray, weight: np.ndarray, shift, scale) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight * (1 + scale) + shift


def attention(qkv: np.ndarray, heads: int, position: np.ndarray, seen: np.ndarray) -> np.ndarray:
    B, n, _ = qkv.shape
    q, k, v = np.moveaxis(qkv.reshape(B, n, 3, heads, -1), 2, 0)  # [B,n,H,K]
    q, k = rotated(q, position), rotated(k, position)
    scores = np.einsum("bihk,bjhk->bhij", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(seen, scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhij,bjhk->bihk", p / p.sum(-1, keepdims=True), v).reshape(B, n, -1)


def rotated(x: np.ndarray, position: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    angle = position[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def conditioning(w: Tensors, sigma: np.ndarray) -> np.ndarray:
    """c [B,C] of the noise levels [B], and of no class."""
    angle = sigma[:, None] * 10000.0 ** (-np.arange(128) / 128)
    x = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
    x = silu(x @ w["sigma_map.mlp.0.weight"].T.astype("f8") + w["sigma_map.mlp.0.bias"])
    c = silu(x @ w["sigma_map.mlp.2.weight"].T.astype("f8") + w["sigma_map.mlp.2.bias"])
    table = w.get("cond_map.embedding_table.weight")
    return c if table is None else c + silu(table[-1].astype("f8"))


def uniform_logits(w: Tensors, heads: int, z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Of noisy tokens [B,L], of which the shares alpha [B] were not replaced."""
    L = z.shape[1]
    return transformer(w, heads, z, np.arange(L), np.ones((L, L), bool), conditioning(w, -np.log(alpha)))


def block_logits(w: Tensors, heads: int, z: np.ndarray, x0: np.ndarray, size: int) -> np.ndarray:
    """Of noisy tokens [B,L] in blocks of this size: one pass over them and the clean ones, 2L tokens, under a mask."""
    L = z.shape[1]
    clean, block = np.arange(2 * L) >= L, np.tile(np.arange(L) // size, 2)
    own = (clean[:, None] == clean) & (block[:, None] == block)
    past = clean[None] & (block[:, None] > block)  # clean blocks before, for noisy and clean tokens
    c = conditioning(w, np.zeros(len(z))) if "sigma_map.mlp.0.weight" in w else None
    ids = np.concatenate([z, x0], axis=1)
    return transformer(w, heads, ids, np.tile(np.arange(L), 2), own | past, c)[:, :L]
