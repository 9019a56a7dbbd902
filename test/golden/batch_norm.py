"""Writes batch_norm.json: PyTorch's batch normalisation in float64, also with a residual and ReLU behind it, its gradients
and its running statistics."""

import torch
import torch.nn.functional as F

from numbers_of_harness import flat, project, tensor, to_nchw, to_nhwc, values, write

cases = []
for shape, mode, momentum, eps, add, relu in [
    ([2, 3, 3, 4], "train", 0.1, 1e-5, False, False),
    ([2, 3, 5, 3], "train", 0.01, 1e-3, False, False),
    ([1, 2, 1, 8], "train", 1.0, 0.1, False, False),
    ([3, 1, 1, 5], "train", 0.1, 1e-5, False, False),
    ([2, 3, 3, 4], "eval", 0.1, 1e-5, False, False),
    ([1, 1, 1, 6], "eval", 0.1, 1e-3, False, False),
    ([2, 3, 3, 4], "train", 0.1, 1e-5, False, True),
    ([2, 3, 5, 3], "train", 0.1, 1e-5, True, True),
    ([2, 3, 3, 4], "train", 0.1, 1e-5, True, False),
    ([2, 3, 5, 3], "eval", 0.1, 1e-3, False, True),
    ([2, 3, 3, 4], "eval", 0.1, 1e-3, True, True),
]:
    c = shape[-1]
    count = shape[0] * shape[1] * shape[2] * c
    x = tensor(values(count, 1), shape).requires_grad_()
    gamma = tensor(values(c, 2), [c]).requires_grad_()
    beta = tensor(values(c, 3), [c]).requires_grad_()
    mean = tensor(values(c, 4), [c])
    var = tensor(values(c, 5, 0.5, 2.0), [c])
    residual = tensor(values(count, 6), shape).requires_grad_()
    y = to_nhwc(F.batch_norm(to_nchw(x), mean, var, gamma, beta, mode == "train", momentum, eps))
    if add:
        y = y + residual
    if relu:
        y = F.relu(y)
    project(y).backward()
    cases.append(
        dict(
            shape=shape,
            add=add,
            relu=relu,
            options=dict(mode=mode, momentum=momentum, eps=eps),
            output=flat(y),
            gradients=[flat(x.grad), flat(gamma.grad), flat(beta.grad), *([flat(residual.grad)] if add else [])],
            runningMean=flat(mean),
            runningVar=flat(var),
        )
    )
write(__file__, cases)
