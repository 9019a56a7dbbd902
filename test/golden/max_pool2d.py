"""Writes max_pool2d.json: PyTorch's max pooling in float64 and its gradient, without and with ties."""

import torch.nn.functional as F

from numbers_of_harness import distinct, flat, project, tensor, to_nchw, to_nhwc, values, write

cases = []
for shape, ties, options in [
    ([2, 7, 6, 4], False, dict(kernel=3, stride=2, padding=1)),
    ([1, 5, 5, 3], False, dict(kernel=2)),
    ([1, 8, 9, 2], False, dict(kernel=[3, 2], stride=[1, 2], padding=[1, 0], dilation=[2, 3])),
    ([1, 3, 3, 5], False, dict(kernel=3, stride=1, padding=1)),
    ([2, 6, 6, 4], True, dict(kernel=3, stride=1, padding=1)),
    ([1, 7, 7, 3], True, dict(kernel=3, stride=2, padding=1)),
]:
    count = shape[0] * shape[1] * shape[2] * shape[3]
    data = [float(round(v)) for v in values(count)] if ties else distinct(count)
    x = tensor(data, shape).requires_grad_()
    named = dict(stride=options.get("stride"), padding=options.get("padding", 0), dilation=options.get("dilation", 1))
    y = to_nhwc(F.max_pool2d(to_nchw(x), options["kernel"], **named))
    project(y).backward()
    cases.append(dict(shape=shape, ties=ties, options=options, output=flat(y), gradients=[flat(x.grad)]))
write(__file__, cases)
