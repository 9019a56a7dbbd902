"""Writes conv2d.json beside this file: PyTorch's outputs and gradients of sum(output * weights), float64.

Operands are values(count, seed) of test/harness.ts with seeds 1 (x), 2 (w), 3 (bias), so the file holds answers only.
NHWC and [cout, kh, kw, cin / groups], as in the library.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

from numbers_of_harness import values

# x [n, h, w, cin], w [cout, kh, kw, cin / groups], stride, padding [top, bottom, left, right], dilation, groups, bias
CASES = [
    ([1, 5, 5, 3], [4, 3, 3, 3], [1, 1], [1, 1, 1, 1], [1, 1], 1, True),
    ([2, 4, 5, 4], [4, 3, 3, 4], [1, 1], [1, 1, 1, 1], [1, 1], 1, True),
    ([1, 7, 6, 2], [3, 3, 3, 2], [2, 2], [1, 1, 1, 1], [1, 1], 1, False),
    ([1, 9, 8, 3], [2, 5, 4, 3], [2, 3], [2, 1, 0, 2], [1, 1], 1, True),
    ([1, 5, 5, 4], [4, 3, 3, 4], [1, 1], [6, 6, 6, 6], [6, 6], 1, False),
    ([1, 8, 7, 4], [8, 3, 2, 2], [2, 1], [0, 2, 1, 1], [1, 2], 2, True),
    ([1, 6, 6, 8], [8, 3, 3, 4], [1, 1], [2, 2, 2, 2], [2, 2], 2, False),
    ([2, 6, 5, 3], [3, 3, 3, 1], [1, 1], [1, 1, 1, 1], [1, 1], 3, True),
    ([1, 7, 7, 4], [8, 3, 3, 1], [2, 2], [2, 1, 0, 3], [2, 1], 4, True),
    ([2, 3, 3, 8], [5, 1, 1, 8], [1, 1], [0, 0, 0, 0], [1, 1], 1, True),
    ([1, 7, 7, 3], [2, 7, 7, 3], [2, 2], [3, 3, 3, 3], [1, 1], 1, False),
    ([1, 9, 9, 2], [2, 2, 3, 2], [3, 2], [1, 0, 2, 1], [4, 3], 1, True),
]


def operand(shape, seed):
    return torch.tensor(values(math.prod(shape), seed), dtype=torch.float64).reshape(shape).requires_grad_()


def numbers(t):
    return [float(f"{v:.9g}") for v in t.detach().flatten().tolist()]


cases = []
for xs, ws, stride, padding, dilation, groups, has_bias in CASES:
    x, w = operand(xs, 1), operand(ws, 2)
    bias = operand([ws[0]], 3) if has_bias else None
    top, bottom, left, right = padding
    padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = F.conv2d(padded, w.permute(0, 3, 1, 2), bias, stride, 0, dilation, groups).permute(0, 2, 3, 1)
    weights = torch.tensor(values(y.numel(), 977), dtype=torch.float64).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), [x, w] + ([bias] if has_bias else []))
    cases.append(
        {
            "x": xs,
            "w": ws,
            "bias": has_bias,
            "options": {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
            "shape": list(y.shape),
            "output": numbers(y),
            "gradients": [numbers(g) for g in gradients],
        }
    )
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
pathlib.Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n")
