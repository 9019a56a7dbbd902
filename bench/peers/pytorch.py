"""PyTorch's side of the peer benchmark (bench/peers/main.mjs): a process that is asked case by case, one line of JSON each.

Requests are those of serve.mjs, but for "first" and "verify"; and {"do": "memory", "case": …} → how far a few steps raise the
peak memory.
Maps are NCHW, as PyTorch has them unless told otherwise; `--channels-last` tells it otherwise.
Run by hand: echo '{"do": "hello"}' | python pytorch.py 2
"""

import gc
import json
import math
import resource
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FORMAT = torch.channels_last if "--channels-last" in sys.argv else torch.contiguous_format


def values(shape, seed, scale=1.0):
    """src/cli/bench/values.ts `values`, number for number."""
    h = np.arange(math.prod(shape), dtype=np.uint32) + np.uint32(seed * 0x9E3779B9 & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    h = h ^ (h >> np.uint32(16))
    v = (h.astype(np.float64) * 2.0**-31 - 1).astype(np.float32).astype(np.float64) * scale
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def truth(x, classes):
    v = values(x[:3], 5).double()
    return ((v / 2 + 0.5) * classes).floor().clamp_max(classes - 1).long()


def nchw(t):
    return t.permute(0, 3, 1, 2).contiguous(memory_format=FORMAT)


def sample(t):
    """src/cli/bench/values.ts `sample`, of our layout."""
    t = (t.permute(0, 2, 3, 1) if t.dim() == 4 else t).detach().flatten()
    return t[:: t.numel() // 997 | 1].tolist()


def tversky(z, y, alpha=0.7, beta=0.3):
    """As it is usually written."""
    p = F.softmax(z, 1)
    t = F.one_hot(y, z.shape[1]).permute(0, 3, 1, 2).to(p.dtype)
    dims = (0, 2, 3)
    tp = (p * t).sum(dims)
    fp = (p * (1 - t)).sum(dims)
    fn = ((1 - p) * t).sum(dims)
    return (1 - tp / (tp + alpha * fp + beta * fn)).mean()


def conv(cin, cout, k, stride=1, dilation=1, groups=1, bias=False):
    return nn.Conv2d(cin, cout, k, stride, dilation * (k - 1) // 2, dilation, groups, bias)


def relu():
    return nn.ReLU(inplace=True)  # as torchvision and smp have it: it saves memory


class Basic(nn.Module):
    def __init__(self, cin, cout, stride, dilation, project):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, cout, 3, stride, dilation), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = conv(cout, cout, 3, 1, dilation), nn.BatchNorm2d(cout)
        self.relu = relu()
        self.downsample = nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout)) if project else None

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet18(nn.Module):
    """At output stride 16: the last stage keeps its size and dilates its second block."""

    def __init__(self, width):
        super().__init__()
        cin = width(64)
        self.out = cin, width(512)
        self.conv1, self.bn1, self.relu = conv(3, cin, 7, 2), nn.BatchNorm2d(cin), relu()
        for i, (stride, rest) in enumerate([(1, 1), (2, 1), (2, 1), (1, 2)]):
            cout = width(64 * 2**i)
            stage = nn.Sequential(Basic(cin, cout, stride, 1, i > 0), Basic(cout, cout, 1, rest, False))
            setattr(self, f"layer{i + 1}", stage)
            cin = cout

    def forward(self, x):
        low = self.layer1(F.max_pool2d(self.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        return low, self.layer4(self.layer3(self.layer2(low)))


def pointwise(cin, cout):
    return [conv(cin, cout, 1), nn.BatchNorm2d(cout), relu()]


def separable(cin, cout, dilation=1):
    depthwise = conv(cin, cin, 3, 1, dilation, cin)
    return [nn.Sequential(depthwise, nn.BatchNorm2d(cin), relu(), conv(cin, cout, 1)), nn.BatchNorm2d(cout), relu()]


class ASPP(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        branches = [pointwise(cin, cout), *(separable(cin, cout, rate) for rate in (6, 12, 18))]
        branches.append([nn.AdaptiveAvgPool2d(1), *pointwise(cin, cout)])
        self.convs = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.project = nn.Sequential(*pointwise(5 * cout, cout), nn.Dropout(0.1))

    def forward(self, x):
        ys = [branch(x) for branch in self.convs]
        ys[4] = F.interpolate(ys[4], x.shape[2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat(ys, 1))


class Decoder(nn.Module):
    def __init__(self, low, high, reduced, head):
        super().__init__()
        self.aspp = nn.Sequential(ASPP(high, head))
        self.block1 = nn.Sequential(*pointwise(low, reduced))
        self.block2 = nn.Sequential(*separable(head + reduced, head), *separable(head, head))

    def forward(self, low, high):
        up = F.interpolate(self.aspp(high), low.shape[2:], mode="bilinear", align_corners=True)
        return self.block2(torch.cat([up, self.block1(low)], 1))


class DeepLab(nn.Module):
    """src/models/deeplab_v3_plus.ts, variant "paper", ResNet-18, output stride 16: layer for layer, name for name."""

    def __init__(self, classes, factor):
        super().__init__()
        width = lambda c: max(8, 8 * math.floor(c * factor / 8 + 0.5))
        self.encoder = ResNet18(width)
        self.decoder = Decoder(*self.encoder.out, width(48), width(256))
        self.segmentation_head = nn.Sequential(conv(width(256), classes, 1, bias=True))

    def forward(self, x):
        logits = self.segmentation_head(self.decoder(*self.encoder(x)))
        return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)


def fill(model):
    """src/cli/bench/prepare.ts `weight`."""
    named = dict(model.named_parameters())
    with torch.no_grad():
        for i, name in enumerate(sorted(named)):
            t = named[name]
            if t.dim() == 4:
                o, c, h, w = t.shape
                t.copy_(values((o, h, w, c), 100 + i, math.sqrt(6 / (c * h * w))).permute(0, 3, 1, 2))
            else:
                t.copy_(values(t.shape, 100 + i, 0.1) + (1 if name.endswith("weight") else 0))


class DilatedNet(nn.Module):
    """src/cli/bench/dilated_net.ts"""

    def __init__(self, classes):
        super().__init__()
        layers = [(3, 32, 2, 1), (32, 64, 2, 1), (64, 64, 1, 2), (64, 64, 1, 4)]
        norm = lambda cin, cout, s, d: [conv(cin, cout, 3, s, d), nn.BatchNorm2d(cout), relu()]
        self.body = nn.Sequential(*(m for layer in layers for m in norm(*layer)))
        self.head = conv(64, classes, 1, bias=True)

    def forward(self, x):
        return F.interpolate(self.head(self.body(x)), x.shape[2:], mode="bilinear", align_corners=True)


class StepCase:
    def __init__(self, case):
        dilated = case["op"] == "dilatedStep"
        model = DilatedNet(case["classes"]) if dilated else DeepLab(case["classes"], case["width"])
        self.model = model.to(memory_format=FORMAT).train()
        self.overlap = not dilated
        self.x, self.y = nchw(values(case["x"], 1)), truth(case["x"], case["classes"])
        self.run = {"step": self.step}
        if dilated:
            self.optimiser = torch.optim.SGD(model.parameters(), lr=case["lr"], momentum=case["momentum"])
            return
        named = list(self.model.parameters())
        groups = [
            dict(params=[p for p in named if p.dim() > 1], weight_decay=case["weightDecay"]),
            dict(params=[p for p in named if p.dim() <= 1], weight_decay=0.0),
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=case["lr"])

    def loss(self):
        logits = self.model(self.x)
        loss = F.cross_entropy(logits, self.y)
        return loss + tversky(logits, self.y) if self.overlap else loss

    def step(self):
        self.optimiser.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimiser.step()

    def check(self):
        dropouts = [m for m in self.model.modules() if isinstance(m, nn.Dropout)]
        fill(self.model)
        for m in dropouts:
            m.p = 0.0
        loss = self.loss()
        named = dict(self.model.named_parameters())
        gradients = torch.autograd.grad(loss, [named[name] for name in sorted(named)])
        for m in dropouts:
            m.p = 0.1
        return [[loss.item()], [math.hypot(*sample(g)) for g in gradients]]


class OpCase:
    def __init__(self, case):
        op = case["op"]
        if op == "matmul":
            shape = case["m"], case["k"]
            x = values(shape, 1)
        else:
            shape = case["x"]
            x = nchw(values(shape, 1))
        self.leaves = [x]
        if op == "matmul":
            w = values((case["k"], case["n"]), 2, math.sqrt(3 / case["k"]))
            self.leaves = [x, w]
            self.forward = lambda: x @ w
        elif op == "conv2d":
            w = nchw(values(case["w"], 2, math.sqrt(3 / math.prod(case["w"][1:]))))
            self.leaves = [w] if case["image"] else [x, w]
            geometry = [case[key] for key in ("stride", "padding", "dilation", "groups")]
            self.forward = lambda: F.conv2d(x, w, None, *geometry)
        elif op in ("batchNorm", "batchNormRelu"):
            gamma, beta = values(shape[3:], 2), values(shape[3:], 3)
            mean, var = torch.zeros(shape[3]), torch.ones(shape[3])
            self.leaves = [x, gamma, beta]
            activation = F.relu if op == "batchNormRelu" else lambda y: y
            self.forward = lambda: activation(F.batch_norm(x, mean, var, gamma, beta, True, 0.1, 1e-5))
        elif op == "resizeBilinear":
            size, aligned = case["size"], case["alignCorners"]
            self.forward = lambda: F.interpolate(x, size, mode="bilinear", align_corners=aligned)
        elif op == "softmax":
            self.forward = lambda: F.softmax(x, 1)
        elif op in ("crossEntropy", "tversky"):
            y = truth(shape, shape[3])
            loss = F.cross_entropy if op == "crossEntropy" else tversky
            self.forward = lambda: loss(x, y)
        elif op == "upsampledTversky":
            size, aligned = case["size"], case["alignCorners"]
            y = truth([shape[0], *size, shape[3]], shape[3])
            resize = lambda: F.interpolate(x, size, mode="bilinear", align_corners=aligned)
            self.forward = lambda: tversky(resize(), y)
        else:
            raise ValueError(f"there is no op {op!r}")
        for leaf in self.leaves:
            leaf.requires_grad_()
        with torch.no_grad():
            result = self.forward()
        dims = tuple(result.shape)
        if len(dims) == 4:
            self.dy = nchw(values((dims[0], *dims[2:], dims[1]), 9))
        else:
            self.dy = values(dims, 9) if dims else None
        self.run = {"forward": self.infer, "both": self.both}

    def infer(self):
        with torch.no_grad():
            return self.forward()

    def both(self):
        y = self.forward()
        return y, torch.autograd.grad(y, self.leaves, self.dy)

    def check(self):
        y, gradients = self.both()
        return [sample(t) for t in (y, *gradients)]


def make(case):
    return (StepCase if case["op"] in ("step", "dilatedStep") else OpCase)(case)


def timed(run, seconds, repetitions, warmups):
    """serve.mjs `time`, by the same rules."""
    for _ in range(warmups):
        for f in run.values():
            f()
    ms, cpu = ({direction: [] for direction in run} for _ in range(2))
    start = time.perf_counter()
    done = 0
    while done < repetitions or time.perf_counter() - start < seconds:
        for direction, f in run.items():
            clock, process = time.perf_counter(), time.process_time()
            f()
            cpu[direction].append((time.process_time() - process) * 1e3)
            ms[direction].append((time.perf_counter() - clock) * 1e3)
        done += 1
    return dict(ms=ms, cpuMs=cpu, bytes=None)


def status(key):
    """Bytes by /proc: getrusage's peak is the parent's too after fork and exec. None elsewhere."""
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
    except OSError:
        return None


def forget_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak():
    return status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(case):
    """Peak over a process that has its libraries loaded: a small network's step comes first."""
    small = StepCase({**case, "x": [2, 32, 32, 3], "width": 0.125})
    small.step()
    del small
    gc.collect()
    forget_peak()
    before = status("VmRSS") or peak()
    big = StepCase(case)
    for _ in range(3):
        big.step()
    return dict(bytes=peak() - before, process=peak())


def answer(request, held):
    what = request["do"]
    if what == "hello":
        about = f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
        return dict(description=about, version=torch.__version__, threads=torch.get_num_threads(), format=str(FORMAT).split(".")[1])
    if what == "prepare":
        held.clear()
        gc.collect()
        held.append(make(request["case"]))
        found = held[0].check()
        return dict(samples={d: found[:1] if d == "forward" else found for d in held[0].run}, refused={})
    if what == "time":
        return timed(held[0].run, request["seconds"], request["repetitions"], request["warmups"])
    if what == "memory":
        return memory(request["case"])
    raise ValueError(f"cannot do {what!r}")


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    held = []
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), held)
        except Exception as error:  # the benchmark goes on with the next case
            reply = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
