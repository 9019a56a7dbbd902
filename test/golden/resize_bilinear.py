"""Writes resize_bilinear.json: PyTorch's bilinear interpolation in float64 and its gradient."""

import torch.nn.functional as F

from numbers_of_harness import flat, project, tensor, to_nchw, to_nhwc, values, write

cases = []
for shape, size in [
    ([1, 1, 1, 3], [7, 4]),
    ([1, 7, 5, 2], [1, 1]),
    ([2, 3, 4, 4], [12, 16]),
    ([1, 3, 3, 1], [17, 5]),
    ([1, 17, 5, 1], [3, 3]),
    ([1, 2, 2, 3], [2, 2]),
    ([1, 9, 8, 4], [5, 11]),
]:
    for align in [False, True]:
        x = tensor(values(shape[0] * shape[1] * shape[2] * shape[3]), shape).requires_grad_()
        y = to_nhwc(F.interpolate(to_nchw(x), size=size, mode="bilinear", align_corners=align))
        project(y).backward()
        cases.append(dict(shape=shape, size=size, alignCorners=align, output=flat(y), gradients=[flat(x.grad)]))
write(__file__, cases)
