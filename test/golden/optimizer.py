"""Writes optimizer.json: parameters after steps 1 and 10 of PyTorch's optimisers, in float64."""

import json
import math
from pathlib import Path

import torch

SHAPES = [[3, 5], [7], [2, 3, 2, 2], [], [65]]
STEPS = 10


def numbers(shape, seed):
    count = math.prod(shape)
    return [round(math.sin(1.7 * i + 2.3 * seed + 0.4), 3) for i in range(count)]


initial = [numbers(shape, k) for k, shape in enumerate(SHAPES)]
gradients = [[numbers(shape, 11 * t + k + 5) for k, shape in enumerate(SHAPES)] for t in range(STEPS)]
LR = [0.05, 0.5]
DECAY = [0.02, 0.0]

CASES = {
    "sgd": (torch.optim.SGD, {}, None),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, None),
    "nesterov": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}, None),
    "clipped": (torch.optim.SGD, {"momentum": 0.9}, 1.5),
    "adam": (torch.optim.Adam, {}, None),
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.99), "eps": 1e-6}, None),
    "adamwClipped": (torch.optim.AdamW, {}, 0.3),
}


def tensor(values, shape):
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def run(kind, options, clip):
    parameters = [torch.nn.Parameter(tensor(v, s)) for v, s in zip(initial, SHAPES)]
    # The first group holds the tensors of rank 2 and more, the second the rest.
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "lr": LR[0], "weight_decay": DECAY[0]},
        {"params": [p for p in parameters if p.dim() <= 1], "lr": LR[1], "weight_decay": DECAY[1]},
    ]
    optimizer = kind(groups, lr=1.0, **options)
    after, norms = {}, []
    for t in range(STEPS):
        for k, p in enumerate(parameters):
            p.grad = tensor(gradients[t][k], SHAPES[k])
        if clip is not None:
            norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, clip)))
        optimizer.step()
        if t + 1 in (1, STEPS):
            after[t + 1] = [p.detach().flatten().tolist() for p in parameters]
    return {"first": after[1], "last": after[STEPS], "norms": norms}


golden = {
    "shapes": SHAPES,
    "initial": initial,
    "gradients": gradients,
    "lr": LR,
    "weightDecay": DECAY,
    "cases": {name: run(*case) for name, case in CASES.items()},
}
Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
