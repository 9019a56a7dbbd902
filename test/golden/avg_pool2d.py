"""Writes avg_pool2d.json: PyTorch's average pooling in float64 and its gradient."""

import torch.nn.functional as F

from numbers_of_harness import flat, project, tensor, to_nchw, to_nhwc, values, write

cases = []
for shape, options in [
    ([2, 7, 6, 4], dict(kernel=3, stride=2, padding=1)),
    ([2, 7, 6, 4], dict(kernel=3, stride=2, padding=1, countIncludePad=False)),
    ([1, 5, 5, 3], dict(kernel=2)),
    ([1, 8, 9, 2], dict(kernel=[3, 4], stride=[1, 2], padding=[1, 2], countIncludePad=False)),
    ([1, 3, 4, 5], dict(kernel=[3, 4])),
]:
    x = tensor(values(shape[0] * shape[1] * shape[2] * shape[3]), shape).requires_grad_()
    y = F.avg_pool2d(
        to_nchw(x),
        options["kernel"],
        stride=options.get("stride"),
        padding=options.get("padding", 0),
        count_include_pad=options.get("countIncludePad", True),
    )
    y = to_nhwc(y)
    project(y).backward()
    cases.append(dict(shape=shape, options=options, output=flat(y), gradients=[flat(x.grad)]))
write(__file__, cases)
