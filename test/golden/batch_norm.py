"""Writes batch_norm.json: PyTorch's batch normalisation in float64, its gradients and its running statistics."""

import torch
import torch.nn.functional as F

from numbers_of_harness import flat, project, tensor, to_nchw, to_nhwc, values, write

cases = []
for shape, mode, momentum, eps in [
    ([2, 3, 3, 4], "train", 0.1, 1e-5),
    ([2, 3, 5, 3], "train", 0.01, 1e-3),
    ([1, 2, 1, 8], "train", 1.0, 0.1),
    ([3, 1, 1, 5], "train", 0.1, 1e-5),
    ([2, 3, 3, 4], "eval", 0.1, 1e-5),
    ([1, 1, 1, 6], "eval", 0.1, 1e-3),
]:
    c = shape[-1]
    count = shape[0] * shape[1] * shape[2] * c
    x = tensor(values(count, 1), shape).requires_grad_()
    gamma = tensor(values(c, 2), [c]).requires_grad_()
    beta = tensor(values(c, 3), [c]).requires_grad_()
    mean = tensor(values(c, 4), [c])
    var = tensor(values(c, 5, 0.5, 2.0), [c])
    y = to_nhwc(F.batch_norm(to_nchw(x), mean, var, gamma, beta, mode == "train", momentum, eps))
    project(y).backward()
    cases.append(
        dict(
            shape=shape,
            options=dict(mode=mode, momentum=momentum, eps=eps),
            output=flat(y),
            gradients=[flat(x.grad), flat(gamma.grad), flat(beta.grad)],
            runningMean=flat(mean),
            runningVar=flat(var),
        )
    )
write(__file__, cases)
