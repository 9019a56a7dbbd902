"""Writes cross_entropy.json and binary_cross_entropy.json beside this file: PyTorch's losses and logit gradients, float64."""

import json
import pathlib

import torch
import torch.nn.functional as F

here = pathlib.Path(__file__).parent
torch.manual_seed(3)


def numbers(t):
    return [float(v) for v in t.flatten()]


def rounded(*shape, scale=2.0):
    return (torch.randn(*shape, dtype=torch.float64) * scale * 1000).round() / 1000


def cross_entropy(name, shape, ignore_share, **options):
    z = rounded(*shape).requires_grad_()
    y = torch.randint(0, shape[-1], shape[:-1])
    y[torch.rand(shape[:-1]) < ignore_share] = 255
    weight = options.get("classWeights")
    loss = F.cross_entropy(
        z.reshape(-1, shape[-1]),
        y.reshape(-1),
        weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
        ignore_index=options.get("ignoreIndex", 255),
        label_smoothing=options.get("labelSmoothing", 0.0),
    )
    loss.backward()
    return dict(
        name=name, shape=shape, options=options, logits=numbers(z), labels=[int(v) for v in y.flatten()],
        loss=loss.item(), gradient=numbers(z.grad),
    )


cases = [
    cross_entropy("plain", [2, 3, 5, 4], 0.0),
    cross_entropy("one class", [3, 1], 0.0),
    cross_entropy("ignored pixels", [2, 5, 3, 3], 0.4),
    cross_entropy("class weights", [1, 7, 3, 3], 0.3, classWeights=[0.2, 1.5, 4.0]),
    cross_entropy("a weight of zero", [17, 3], 0.1, classWeights=[0.0, 1.0, 2.0]),
    cross_entropy("label smoothing", [2, 4, 4, 5], 0.2, labelSmoothing=0.1),
    cross_entropy("smoothing and weights", [2, 3, 3, 4], 0.3, labelSmoothing=0.2, classWeights=[0.5, 1.0, 3.0, 0.1]),
    cross_entropy("ignored class", [19, 4], 0.0, ignoreIndex=2),
]
(here / "cross_entropy.json").write_text(json.dumps(cases))


def binary(name, shape, targets, weighted=False):
    z = rounded(*shape, scale=3.0).requires_grad_()
    t = {
        "soft": lambda: (torch.rand(*shape, dtype=torch.float64) * 1000).round() / 1000,
        "hard": lambda: torch.randint(0, 2, shape).double(),
        "0": lambda: torch.zeros(*shape, dtype=torch.float64),
        "1": lambda: torch.ones(*shape, dtype=torch.float64),
    }[targets]()
    w = (torch.rand(*shape, dtype=torch.float64) * 1000).round() / 500 if weighted else None
    loss = F.binary_cross_entropy_with_logits(z, t, weight=w)
    loss.backward()
    return dict(
        name=name, shape=shape, logits=numbers(z), targets=int(targets) if targets in "01" else numbers(t),
        weight=None if w is None else numbers(w), loss=loss.item(), gradient=numbers(z.grad),
    )


cases = [
    binary("domain 0", [2, 4, 4, 1], "0"),
    binary("domain 1", [3, 5, 1], "1"),
    binary("hard targets", [2, 3, 3, 2], "hard"),
    binary("soft targets", [7], "soft"),
    binary("weights", [2, 5, 3], "soft", weighted=True),
    binary("domain 1 with weights", [9, 1], "1", weighted=True),
]
(here / "binary_cross_entropy.json").write_text(json.dumps(cases))
