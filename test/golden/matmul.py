"""Writes matmul.json beside this file: PyTorch's products and gradients of sum(output * weights), float64.

Operands are values(count, seed) of test/harness.ts with seeds 1 (a) and 2 (b), so the file holds answers only.
"""

import json
import math
import pathlib

import torch

from numbers_of_harness import values


def operand(shape, seed):
    return torch.tensor(values(math.prod(shape), seed), dtype=torch.float64).reshape(shape).requires_grad_()


def numbers(t):
    return [float(f"{v:.9g}") for v in t.detach().flatten().tolist()]


cases = []
for m, k, n in [(1, 1, 1), (5, 7, 6), (8, 4, 12)]:
    for transpose_a in [False, True]:
        for transpose_b in [False, True]:
            a = operand([k, m] if transpose_a else [m, k], 1)
            b = operand([n, k] if transpose_b else [k, n], 2)
            y = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
            weights = torch.tensor(values(y.numel(), 977), dtype=torch.float64).reshape(y.shape)
            gradients = torch.autograd.grad((y * weights).sum(), [a, b])
            cases.append(
                {
                    "a": list(a.shape),
                    "b": list(b.shape),
                    "options": {"transposeA": transpose_a, "transposeB": transpose_b},
                    "output": numbers(y),
                    "gradients": [numbers(g) for g in gradients],
                }
            )
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
pathlib.Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n")
