"""objectives.py — noise schedules and losses of the golden files, written from their formulas; derivatives by autograd.

A loss is [B,L] in nat, for all positions, also those that are not scored. Sources: arXiv:2406.07524 (subs),
arXiv:2107.03006 (d3pm), arXiv:2310.16834 (sedd), arXiv:2412.10193 (uniform).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

EPS, SIGMA_MIN = 1e-3, 1e-3  # of the schedules
CLAMP = 1 - 1e-4  # the largest time in a weight of the bound in discrete time

SCHEDULES = {
    "loglinear": lambda t: -(1 - (1 - EPS) * t).log(),
    "linear": lambda t: SIGMA_MIN + t * (7 - SIGMA_MIN),
    "geometric": lambda t: SIGMA_MIN ** (1 - t) * 1.0**t,
    "cosine": lambda t: -(EPS + (1 - EPS) * (math.pi * t / 2).cos()).log(),
    "cosinesqr": lambda t: -(EPS + (1 - EPS) * (math.pi * t / 2).cos() ** 2).log(),
}


def noise(schedule: str, t: Tensor) -> tuple[Tensor, Tensor]:
    """sigma(t) and its derivative."""
    t = t.clone().requires_grad_()
    sigma = SCHEDULES[schedule](t)
    return sigma.detach(), torch.autograd.grad(sigma.sum(), t)[0]


# ---------------------------------------------------------------- times
def ends(schedule: str) -> tuple[float, float]:
    """log(1 - e^-sigma) at the smallest and the largest sigma; loglinear's smallest would be 0 and is raised by EPS."""
    least, most = (SCHEDULES[schedule](torch.tensor(x)).item() for x in (0.0, 1.0))
    least = EPS + least if schedule == "loglinear" else least
    return math.log(-math.expm1(-least)), math.log(-math.expm1(-most))


def time_of(case: dict, u: Tensor) -> Tensor:
    """The time of a sequence from the uniform u."""
    if case["T"]:
        return (torch.floor(u * case["T"]) + 1) / case["T"]
    if case["importance_sampling"]:  # log(1 - e^-sigma) is uniform
        low, high = ends(case["schedule"])
        masked = torch.exp(low + u * (high - low))
        if case["schedule"] == "loglinear":
            return masked / (1 - EPS)
        return (-torch.log1p(-masked) - SIGMA_MIN) / (7 - SIGMA_MIN)
    return u


def chance_of(case: dict, t: Tensor) -> Tensor:
    """The probability that a token is masked at time t."""
    if case["change_of_variables"]:
        low, high = ends(case["schedule"])
        return torch.exp(low + t * (high - low))
    return -torch.expm1(-noise(case["schedule"], t)[0])


# ---------------------------------------------------------------- losses
def pick(x: Tensor, tokens: Tensor) -> Tensor:
    return x.gather(-1, tokens[..., None])[..., 0]


def forbid(logits: Tensor, m: int, value: float = -math.inf) -> Tensor:
    return logits.index_fill(-1, torch.tensor(m), value)


def subs_log_p(case: dict, logits: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    carried = torch.full_like(logits, -math.inf).scatter(-1, z[..., None], 0.0)
    return torch.where((z == m)[..., None], forbid(logits, m).log_softmax(-1), carried)


def at_positions(case: dict, weight: Tensor, L: int) -> Tensor:
    """[B,L] of one weight a sequence, [B], or one a block, [B, blocks]."""
    return weight.view(len(weight), -1).repeat_interleave(case.get("block", L), 1)


def subs_loss(case: dict, logits: Tensor, x0: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    if case["T"]:
        weight = 1 / t.clamp(max=CLAMP)
    elif case["importance_sampling"] or case["change_of_variables"]:
        low, high = ends(case["schedule"])
        weight = torch.full_like(t, high - low)
    else:
        sigma, rate = noise(case["schedule"], t)
        weight = rate / torch.expm1(sigma)
    nll = F.cross_entropy(forbid(logits, m).transpose(1, 2), x0, reduction="none")
    return torch.where(z == m, at_positions(case, weight, z.shape[1]) * nll, 0.0)


def d3pm_log_p(case: dict, logits: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    return (forbid(logits, m) if case["subs_masking"] else logits).log_softmax(-1)


def d3pm_loss(case: dict, logits: Tensor, x0: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    log_p = d3pm_log_p(case, logits, z, t, m)
    T, dt = case["T"], 1 / case["T"]
    first = (t * T < 1.5)[:, None]  # t = dt: s = 0, and the factor of log b is 0
    t = t.clamp(max=CLAMP)[:, None]
    s = torch.where(first, 1.0, t - dt)
    p_mask = log_p[..., m].exp()
    log_a, log_b = torch.log1p((1 - t) / t * p_mask), torch.log1p((1 - s) / s * p_mask)
    loss = T * (dt / t * (log_a - pick(log_p, x0)) + torch.where(first, 0.0, (1 - dt / t) * (log_a - log_b)))
    return torch.where(z == m, loss, 0.0)


def d3pm_reconstruction(case: dict, logits_at_x0: Tensor, x0: Tensor, m: int) -> Tensor:
    return -pick(d3pm_log_p(case, logits_at_x0, x0, torch.zeros(len(x0)), m), x0)


def sedd_log_p(case: dict, logits: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    """The log score."""
    sigma = noise(case["schedule"], t)[0]
    score = logits - torch.expm1(sigma).log()[:, None, None] - math.log(logits.shape[-1] - 1)
    return score.scatter(-1, z[..., None], 0.0)


def sedd_loss(case: dict, logits: Tensor, x0: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    sigma, rate = noise(case["schedule"], t)
    ratio = (1 / torch.expm1(sigma))[:, None]
    log_s = sedd_log_p(case, logits, z, t, m)
    positive = forbid(log_s, m).exp().sum(-1)
    return torch.where(z == m, rate[:, None] * (positive - ratio * pick(log_s, x0) + ratio * (ratio.log() - 1)), 0.0)


def ar_log_p(case: dict, logits: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    return forbid(logits, m).log_softmax(-1)


def ar_loss(case: dict, logits: Tensor, x0: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    """Position l predicts token l + 1; the last position has no target."""
    nll = F.cross_entropy(forbid(logits, m, -1000.0)[:, :-1].transpose(1, 2), x0[:, 1:], reduction="none")
    return F.pad(nll, (0, 1))


def uniform_loss(case: dict, logits: Tensor, x0: Tensor, z: Tensor, t: Tensor, m: int) -> Tensor:
    """As published: alpha'/(K alpha) [K/x_z - K/y_z - sum_j x_j/x_z log(y_z x_j/(y_j x_z))] with x = K alpha onehot(x0) +
    1 - alpha, y = K alpha p + 1 - alpha over the K tokens besides m."""
    sigma, rate = noise(case["schedule"], t)
    alpha = torch.exp(-sigma)[:, None, None]
    tokens = torch.arange(logits.shape[-1]) != m
    K = logits.shape[-1] - 1
    y = K * alpha * forbid(logits, m).softmax(-1) + 1 - alpha
    x = K * alpha * F.one_hot(x0, logits.shape[-1]) + 1 - alpha
    x_z, y_z = pick(x, z)[..., None], pick(y, z)[..., None]
    sums = (x / x_z * torch.log(y_z * x / (y * x_z)))[..., tokens].sum(-1, keepdim=True)
    return (-rate[:, None, None] / K * (K / x_z - K / y_z - sums))[..., 0]


LOG_P = {"subs": subs_log_p, "d3pm": d3pm_log_p, "sedd": sedd_log_p, "ar": ar_log_p, "uniform": ar_log_p}
LOSS = {"subs": subs_loss, "d3pm": d3pm_loss, "sedd": sedd_loss, "ar": ar_loss, "uniform": uniform_loss}
