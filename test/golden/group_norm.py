"""Writes group_norm.json: PyTorch's group normalisation in float64 and its gradients."""

import torch.nn.functional as F

from numbers_of_harness import flat, project, tensor, to_nchw, to_nhwc, values, write

cases = []
for shape, groups, eps in [
    ([2, 3, 3, 8], 2, 1e-5),
    ([2, 3, 5, 6], 3, 1e-3),
    ([1, 2, 2, 8], 8, 1e-5),
    ([2, 1, 1, 8], 2, 1e-5),
    ([3, 2, 1, 5], 1, 1e-5),
]:
    c = shape[-1]
    x = tensor(values(shape[0] * shape[1] * shape[2] * c, 1), shape).requires_grad_()
    gamma = tensor(values(c, 2), [c]).requires_grad_()
    beta = tensor(values(c, 3), [c]).requires_grad_()
    y = to_nhwc(F.group_norm(to_nchw(x), groups, gamma, beta, eps))
    project(y).backward()
    gradients = [flat(x.grad), flat(gamma.grad), flat(beta.grad)]
    cases.append(dict(shape=shape, options=dict(groups=groups, eps=eps), output=flat(y), gradients=gradients))
write(__file__, cases)
