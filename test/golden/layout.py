"""Writes softmax.json and layout.json beside this file: PyTorch's outputs, and gradients of sum(output * weights), float64.

Inputs and weights are those of `values()` in test/harness.ts, so that the files hold answers only.
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

here = pathlib.Path(__file__).parent
MASK = 0xFFFFFFFF


def values(count, seed=1, low=-1.0, high=1.0):
    state = (seed * 2654435761) & MASK
    out = []
    for _ in range(count):
        state = ((state ^ (state >> 15)) * 0x2C1B3C6D + 0x9E3779B9) & MASK
        v = low + (state ^ (state >> 13)) / 2**32 * (high - low)
        out.append(float(np.float32(v + 0.05 if abs(v) < 0.02 else v)))
    return out


def operand(shape, seed=1, low=-1.0, high=1.0):
    data = values(math.prod(shape), seed, low, high)
    return torch.tensor(data, dtype=torch.float64).reshape(shape).requires_grad_()


def numbers(t):
    return [float(v) for v in t.detach().flatten()]


def case(fn, *operands):
    y = fn(*operands)
    weights = torch.tensor(values(y.numel(), 977), dtype=torch.float64).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), operands)
    return dict(shape=list(y.shape), output=numbers(y), gradients=[numbers(g) for g in gradients])


softmax = []
for name, fn in [("softmax", F.softmax), ("logSoftmax", F.log_softmax)]:
    for shape, limit in [([3, 5], 4.0), ([2, 3, 3, 2], 1.0), ([2, 21], 8.0), ([3, 19], 50.0), ([4, 1], 1.0)]:
        x = operand(shape, 1, -limit, limit)
        softmax.append(dict(name=name, operand=shape, limit=limit, **case(lambda t: fn(t, dim=-1), x)))
(here / "softmax.json").write_text(json.dumps(softmax))

x = [2, 3, 4, 5]
layout = dict(
    concat=case(lambda a, b: torch.cat([a, b], -1), operand([2, 3, 4, 5], 1), operand([2, 3, 4, 3], 2)),
    slice=case(lambda t: t[0:1, 1:3, 1:4, 2:4], operand(x)),
    # torch lists the last axis first
    pad=case(lambda t: F.pad(t, (2, 0, 1, 1, 0, 2, 1, 0), value=0.5), operand([2, 3, 2, 3])),
    transpose=case(lambda t: t.permute(2, 0, 3, 1), operand(x)),
    oneHot=numbers(F.one_hot(torch.tensor([3, 0, 2, 2, 1]), 4)),
)
(here / "layout.json").write_text(json.dumps(layout))
