"""Writes elementwise.json: PyTorch's elementwise ops, broadcasting ones too, in float64, with their gradients."""

import torch
import torch.nn.functional as F

from numbers_of_harness import flat, project, tensor, values, write

unary = {
    "neg": (torch.neg, -1, 1),
    "scale": (lambda x: -1.7 * x, -1, 1),
    "addScalar": (lambda x: x + 0.3, -1, 1),
    "pow 0": (lambda x: x**0, -1, 1),
    "pow 1": (lambda x: x**1, -1, 1),
    "pow 2": (lambda x: x**2, -1, 1),
    "pow 3": (lambda x: x**3, -1, 1),
    "pow -1": (lambda x: x**-1, 0.5, 2),
    "pow 0.75": (lambda x: x**0.75, 0.2, 2),
    "exp": (torch.exp, -4, 4),
    "log": (torch.log, 0.1, 9),
    "sqrt": (torch.sqrt, 0.1, 9),
    "clamp": (lambda x: torch.clamp(x, -0.5, 0.4), -1, 1),
    "relu": (torch.relu, -1, 1),
    "leakyRelu": (lambda x: F.leaky_relu(x, 0.2), -1, 1),
    "sigmoid": (torch.sigmoid, -8, 8),
    "softplus": (F.softplus, -8, 8),
    "tanh": (torch.tanh, -3, 3),
}
binary = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}
cases = []


def size(shape):
    return int(torch.tensor(shape).prod()) if shape else 1


for name, (f, low, high) in unary.items():
    x = tensor(values(21, 1, low, high), [3, 7]).requires_grad_()
    y = f(x)
    project(y).backward()
    cases.append(dict(name=name, output=flat(y), gradients=[flat(x.grad)]))
for name, f in binary.items():
    for a_shape, b_shape in [([3, 5], [3, 5]), ([2, 3, 4, 5], [5]), ([2, 1, 4, 1], [3, 1, 5]), ([], [2, 3])]:
        a = tensor(values(size(a_shape), 1), a_shape).requires_grad_()
        b = tensor(values(size(b_shape), 2, 0.5, 2), b_shape).requires_grad_()
        y = f(a, b)
        project(y).backward()
        case = f"{name}{a_shape}{b_shape}".replace(" ", "")
        cases.append(dict(name=case, output=flat(y), gradients=[flat(a.grad), flat(b.grad)]))
write(__file__, cases)
