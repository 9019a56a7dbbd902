"""Writes reduce.json: PyTorch's sum, mean and amax over axes, in float64, with their gradients."""

import torch

from numbers_of_harness import distinct, flat, project, tensor, values, write

cases = []
for shape, axes in [([7], [0]), ([3, 5, 2], [0]), ([3, 5, 2], [1]), ([3, 5, 2], [0, 2]), ([2, 3, 2, 3], [0, 1, 2]), ([2, 3, 2, 3], [1, 3])]:
    count = int(torch.tensor(shape).prod())
    for op, f, data in [("sum", torch.sum, values(count)), ("mean", torch.mean, values(count)), ("max", torch.amax, distinct(count))]:
        x = tensor(data, shape).requires_grad_()
        y = f(x, dim=axes)
        project(y).backward()
        cases.append(dict(op=op, shape=shape, axes=axes, output=flat(y), gradients=[flat(x.grad)]))
write(__file__, cases)
