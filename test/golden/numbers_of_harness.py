"""The seeded numbers of test/harness.ts in Python, so that goldens need not carry their inputs."""

import json
import pathlib

import numpy
import torch

MASK = 0xFFFFFFFF


def values(count, seed=1, low=-1.0, high=1.0):
    """`values` of test/harness.ts, number for number."""
    state = (seed * 2654435761) & MASK
    out = []
    for _ in range(count):
        state = ((state ^ (state >> 15)) * 0x2C1B3C6D + 0x9E3779B9) & MASK
        v = low + (state ^ (state >> 13)) / 2**32 * (high - low)
        out.append(float(numpy.float32(v + 0.05 if abs(v) < 0.02 else v)))
    return out


def distinct(count, seed=1):
    """`distinct` of test/harness.ts."""
    keys = values(count, seed)
    order = sorted(range(count), key=lambda i: (keys[i], i))
    return [float(numpy.float32((rank + 0.5) / count * 2 - 1)) for rank in order]


def tensor(numbers, shape):
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def to_nchw(x):
    return x.permute(0, 3, 1, 2)


def to_nhwc(x):
    return x.permute(0, 2, 3, 1)


def project(y):
    """The scalar that the harness differentiates: the output times its fixed weights (`outputWeights`)."""
    return (y * tensor(values(y.numel(), 977), y.shape)).sum()


def flat(t):
    """Rounded to float32, as the shortest digits that say so."""
    return [float(str(numpy.float32(v))) for v in t.detach().contiguous().flatten().tolist()]


def write(script, cases):
    path = pathlib.Path(script).with_suffix(".json")
    path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
