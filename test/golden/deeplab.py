"""Writes deeplab.json: tiny DeepLabV3+ networks of each variant with a domain discriminator behind gradient reversal,
in PyTorch and float64. Weights and images come from the harness's `values`, so only answers are stored: a sample of the
logits, gradients (all of the first two networks, every seventh number of the others), and the losses of SGD with momentum. Run: python3 test/golden/deeplab.py
"""

import base64
import copy
import json
import math
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
CLASSES, LAMBDA, RATE, MOMENTUM, SAMPLE = 3, 0.7, 0.0015, 0.9, 97
# Contrast and brightness of the four images: were they alike, image pooling would normalise rounding errors.
GAIN, SHIFT = [0.4, 0.7, 1.0, 1.3], [0.3, -0.2, 0.1, -0.4]


def values(count, seed, low=-1.0, high=1.0):
    """test/harness.ts `values`, number for number."""
    mask = 0xFFFFFFFF
    state = (seed * 2654435761) & mask
    out = []
    for _ in range(count):
        state = (((state ^ (state >> 15)) * 0x2C1B3C6D) + 0x9E3779B9) & mask
        v = low + ((state ^ (state >> 13)) / 2**32) * (high - low)
        out.append(v + 0.05 if abs(v) < 0.02 else v)
    return np.array(out, dtype=np.float32).astype(np.float64)


class Kinks:
    """How close activations come to the kinks of ReLU and ReLU6: a float32 run must not land on the other side."""

    nearest = math.inf
    relu, clamp = F.relu, F.hardtanh

    @staticmethod
    def see(x, *kinks):
        for kink in kinks:
            Kinks.nearest = min(Kinks.nearest, (x - kink).abs().min().item())


F.relu = lambda x, inplace=False: (Kinks.see(x, 0), Kinks.relu(x))[1]
F.hardtanh = lambda x, low, high, inplace=False: (Kinks.see(x, 0, 6), Kinks.clamp(x, low, high))[1]


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return -LAMBDA * dy


def conv(cin, cout, k, stride=1, dilation=1, groups=1, bias=False, padding=None):
    padding = dilation * (k - 1) // 2 if padding is None else padding
    return nn.Conv2d(cin, cout, k, stride, padding, dilation, groups, bias)


class Basic(nn.Module):
    def __init__(self, cin, cout, stride, dilation, project):
        super().__init__()
        self.conv1 = conv(cin, cout, 3, stride, dilation)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = conv(cout, cout, 3, 1, dilation)
        self.bn2 = nn.BatchNorm2d(cout)
        if project:
            self.downsample = nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Bottleneck(nn.Module):
    def __init__(self, cin, planes, cout, stride, dilation, project):
        super().__init__()
        self.conv1 = conv(cin, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv(planes, planes, 3, stride, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = conv(planes, cout, 1)
        self.bn3 = nn.BatchNorm2d(cout)
        if project:
            self.downsample = nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    """stages: (stride, rate of the first block, rate of the second)."""

    def __init__(self, depth, widths, stages):
        super().__init__()
        self.conv1 = conv(3, widths[0], 7, 2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        counts = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
        cin = widths[0]
        for i, (stride, first, rest) in enumerate(stages):
            blocks = []
            for k in range(counts[i]):
                s, d = (stride, first) if k == 0 else (1, rest)
                if depth == 18:
                    cout = widths[i]
                    blocks.append(Basic(cin, cout, s, d, k == 0 and (i > 0 or cin != cout)))
                else:
                    cout = widths[4 + i]
                    blocks.append(Bottleneck(cin, widths[i], cout, s, d, k == 0))
                cin = cout
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.out = (widths[0] if depth == 18 else widths[4], cin)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        low = self.layer1(x)
        return low, self.layer4(self.layer3(self.layer2(low)))


class Inverted(nn.Module):
    def __init__(self, cin, cout, expansion, stride, dilation, adds, pads_input):
        super().__init__()
        hidden = cin * expansion
        steps = [] if expansion == 1 else [nn.Sequential(conv(cin, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6())]
        padding = 0 if pads_input else None
        depthwise = conv(hidden, hidden, 3, stride, dilation, hidden, padding=padding)
        steps += [nn.Sequential(depthwise, nn.BatchNorm2d(hidden), nn.ReLU6())]
        self.conv = nn.Sequential(*steps, conv(hidden, cout, 1), nn.BatchNorm2d(cout))
        self.margin, self.adds = dilation if pads_input else 0, adds

    def forward(self, x):
        y = self.conv(F.pad(x, (self.margin,) * 4))
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """Output stride 16. VainF: zeros before the expansion, no stem padding, the last stage's first block undilated."""

    def __init__(self, pads_input, last_conv, first_rate, width):
        super().__init__()
        stem = conv(3, width(32), 3, 2, padding=0 if pads_input else None)
        features = [nn.Sequential(stem, nn.BatchNorm2d(width(32)), nn.ReLU6())]
        cin = width(32)
        table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1)]
        for stage, (t, c, n, s) in enumerate(table):
            for k in range(n):
                rate = (first_rate if stage == 5 and k == 0 else 2) if stage >= 5 else 1
                features.append(Inverted(cin, width(c), t, s if k == 0 else 1, rate, k > 0, pads_input))
                cin = width(c)
        if last_conv:
            features.append(nn.Sequential(conv(cin, width(1280), 1), nn.BatchNorm2d(width(1280)), nn.ReLU6()))
            cin = width(1280)
        self.features = nn.Sequential(*features)
        self.out = (width(24), cin)

    def forward(self, x):
        low = self.features[:4](x)
        return low, self.features[4:](low)


def block(cin, cout, k, kind="dense", dilation=1):
    if kind == "dense":
        first = conv(cin, cout, k, 1, dilation)
    else:
        between = [nn.BatchNorm2d(cin), nn.ReLU()] if kind == "normalised" else []
        first = nn.Sequential(conv(cin, cin, k, 1, dilation, cin), *between, conv(cin, cout, 1))
    return [first, nn.BatchNorm2d(cout), nn.ReLU()]


class ASPP(nn.Module):
    def __init__(self, cin, cout, rates, kind, align):
        super().__init__()
        self.align = align
        convs = [nn.Sequential(*block(cin, cout, 1))]
        convs += [nn.Sequential(*block(cin, cout, 3, kind, r)) for r in rates]
        convs += [nn.Sequential(nn.AdaptiveAvgPool2d(1), *block(cin, cout, 1))]
        self.convs = nn.ModuleList(convs)
        self.project = nn.Sequential(*block(5 * cout, cout, 1))

    def forward(self, x):
        ys = [c(x) for c in self.convs]
        ys[4] = F.interpolate(ys[4], x.shape[2:], mode="bilinear", align_corners=self.align)
        return self.project(torch.cat(ys, 1))


class Decoder(nn.Module):
    def __init__(self, channels, head, low, variant, rates):
        super().__init__()
        kind = {"paper": "normalised", "smp": "plain", "vainf": "dense"}[variant]
        self.low_first = variant == "vainf"
        self.align = variant != "vainf"
        after = block(head, head, 3, "plain") if variant == "smp" else []
        self.aspp = nn.Sequential(ASPP(channels[1], head, rates, kind, variant == "paper"), *after)
        self.block1 = nn.Sequential(*block(channels[0], low, 1))
        steps = block(head + low, head, 3, kind)
        if variant == "paper":
            steps += block(head, head, 3, kind)
        self.block2 = nn.Sequential(*steps)

    def forward(self, low, high):
        aspp, low = self.aspp(high), self.block1(low)
        up = F.interpolate(aspp, low.shape[2:], mode="bilinear", align_corners=self.align)
        return aspp, self.block2(torch.cat([low, up] if self.low_first else [up, low], 1))


class DeepLab(nn.Module):
    def __init__(self, encoder, head, low, variant, rates):
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.out, head, low, variant, rates)
        self.segmentation_head = nn.Sequential(conv(head, CLASSES, 1, bias=True))
        self.align = variant != "vainf"

    def forward(self, x):
        low, high = self.encoder(x)
        aspp, decoder = self.decoder(low, high)
        logits = F.interpolate(self.segmentation_head(decoder), x.shape[2:], mode="bilinear", align_corners=self.align)
        p = F.softmax(logits, 1)
        entropy = -p * F.log_softmax(logits, 1) / math.log(CLASSES)
        return {"encoder": high, "aspp": aspp, "decoder": decoder, "softmax": p, "entropy": entropy, "logits": logits}


def discriminator(kind, cin, width):
    if kind == "convolutional":
        net = nn.Sequential(
            conv(cin, width, 3, 1, bias=True), nn.LeakyReLU(0.2), conv(width, 2 * width, 3, 2, bias=True),
            nn.LeakyReLU(0.2), conv(2 * width, 1, 3, 1, bias=True),
        )
    else:
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(cin, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )
    outer = nn.Module()
    outer.layers = net
    return outer


def fill(module, seed):
    """Seeded weights, drawn in our layout [cout, kh, kw, cin]; a linear layer's keep PyTorch's."""
    with torch.no_grad():
        for index, (name, t) in enumerate(item for item in module.state_dict().items() if "num_batches" not in item[0]):
            v = values(t.numel(), seed + index)
            if t.dim() == 4:
                o, c, h, w = t.shape
                v = np.float32(v * math.sqrt(6 / (c * h * w))).astype(np.float64)
                v = v.reshape(o, h, w, c).transpose(0, 3, 1, 2)
                if name == "decoder.block2.0.weight" and module.decoder.low_first:  # we keep [ASPP, low level]
                    split = module.decoder.block2[1].num_features
                    v = np.concatenate([v[:, split:], v[:, :split]], 1)
            elif t.dim() == 2:
                v = np.float32(v * math.sqrt(6 / t.shape[1])).astype(np.float64)
            elif name.endswith("weight") or name.endswith("running_var"):
                v = np.float32(1 + 0.5 * v).astype(np.float64)
            else:
                v = np.float32(0.2 * v).astype(np.float64)
            t.copy_(torch.from_numpy(np.ascontiguousarray(v)).reshape(t.shape))


def ours(module, name, t):
    """A gradient in our layout."""
    if t.dim() != 4:
        return t.flatten()
    if name == "decoder.block2.0.weight" and module.decoder.low_first:
        split = t.shape[1] - module.decoder.block2[1].num_features
        t = torch.cat([t[:, split:], t[:, :split]], 1)
    return t.permute(0, 2, 3, 1).flatten()


def encode(array):
    return base64.b64encode(np.asarray(array, dtype="<f4").tobytes()).decode()


def width32(c, factor=1 / 32):
    return max(8, 8 * math.floor(c * factor / 8 + 0.5))


KEEP = [(1, 1, 1), (2, 1, 1)]
CASES = [
    # options of ours, tap, discriminator, images [h, w], encoder, rates, SGD steps
    (dict(backbone="resnet18", variant="paper", outputStride=16), "decoder", "convolutional", [97, 49],
     lambda: ResNet(18, [width32(64 * 2**i) for i in range(4)], KEEP + [(2, 1, 1), (1, 1, 2)]), (6, 12, 18), 10),
    (dict(backbone="resnet18", variant="smp", outputStride=8), "entropy", "convolutional", [64, 48],
     lambda: ResNet(18, [width32(64 * 2**i) for i in range(4)], KEEP + [(1, 2, 2), (1, 4, 4)]), (12, 24, 36), 10),
    (dict(backbone="resnet50", variant="vainf", outputStride=8), "encoder", "global", [41, 33],
     lambda: ResNet(50, [width32(64 * 2**i) for i in range(4)] + [width32(256 * 2**i) for i in range(4)],
                    KEEP + [(1, 1, 2), (1, 2, 4)]), (12, 24, 36), 1),
    (dict(backbone="mobilenet_v2", variant="vainf", outputStride=16), "softmax", "convolutional", [32, 33],
     lambda: MobileNet(True, False, 1, width32), (6, 12, 18), 1),
    (dict(backbone="mobilenet_v2", variant="smp", outputStride=16), "aspp", "global", [32, 48],
     lambda: MobileNet(False, True, 2, width32), (12, 24, 36), 1),
]

cases = []
for options, tap, kind, (h, w), encoder, rates, steps in CASES:
    model = DeepLab(encoder(), width32(256), width32(48), options["variant"], rates)
    for m in model.encoder.modules():
        if isinstance(m, nn.BatchNorm2d) and options["variant"] == "vainf":
            m.momentum = 0.01
    fill(model, 1)
    cin = CLASSES if tap in ("softmax", "entropy") else {"encoder": model.encoder.out[1]}.get(tap, width32(256))
    judge = discriminator(kind, cin, 8)
    fill(judge, 1001)


    def images_of(seed):
        v = values(4 * h * w * 3, seed).reshape(4, h, w, 3)
        v = np.float32(v * np.array(GAIN).reshape(4, 1, 1, 1) + np.array(SHIFT).reshape(4, 1, 1, 1))
        return torch.from_numpy(v.astype(np.float64).transpose(0, 3, 1, 2).copy())

    def distance(seed):
        Kinks.nearest = math.inf
        with torch.no_grad():
            copy.deepcopy(model)(images_of(seed))
        return Kinks.nearest

    # The seed whose images keep clear of the kinks, so that rounding does not switch a gradient on or off.
    distances = {seed: distance(seed) for seed in range(100, 300)}
    seed = max(distances, key=distances.get)
    images = images_of(seed)
    labels = np.minimum(CLASSES - 1, np.floor(values(4 * h * w, 9, 0, 1) * CLASSES)).astype(np.int64).reshape(4, h, w)
    labels[2:] = 255
    labels = torch.from_numpy(labels)
    # BatchNorm's parameters come before its statistics in state_dict and in our walk alike.
    parameters = [(model, n, p) for n, p in model.named_parameters()] + [(judge, n, p) for n, p in judge.named_parameters()]
    optimiser = torch.optim.SGD([p for _, _, p in parameters], RATE, MOMENTUM)
    losses, gradients, logits = [], None, None
    for step in range(steps):
        features = model(images)
        seen = Reverse.apply(features[tap])
        if kind == "global":
            seen = seen.mean((2, 3))
        verdict = judge.layers(seen)
        target = torch.zeros_like(verdict)
        target[2:] = 1
        segmentation = F.cross_entropy(features["logits"], labels, ignore_index=255)
        domain = F.binary_cross_entropy_with_logits(verdict, target)
        optimiser.zero_grad()
        (segmentation + domain).backward()
        losses.append([segmentation.item(), domain.item()])
        if step == 0:
            logits = features["logits"].detach().permute(0, 2, 3, 1).flatten()[::SAMPLE].numpy()
            gradients = [ours(m, n, p.grad).numpy() for m, n, p in parameters]
        optimiser.step()
    sample = 1 if steps > 1 else 7
    model.eval()
    with torch.no_grad():
        after = model(images)["logits"].permute(0, 2, 3, 1).flatten()[::SAMPLE].numpy()
    cases.append(dict(
        options=options, tap=tap, discriminator=kind, images=[4, h, w, 3], imageSeed=seed, losses=losses, logits=encode(logits),
        evalLogits=encode(after), gradientSample=sample, gradients=encode(np.concatenate(gradients)[::sample]),
        state=[n for n in model.state_dict() if "num_batches" not in n],
    ))
    print(options, "kinks", distances[seed], "parameters", sum(g.size for g in gradients), "losses", losses[0], losses[-1])

file = pathlib.Path(__file__).with_suffix(".json")
settings = dict(classes=CLASSES, width=1 / 32, discriminatorWidth=8, lambda_=LAMBDA, rate=RATE, momentum=MOMENTUM, sample=SAMPLE, gain=GAIN, shift=SHIFT)
file.write_text(json.dumps(dict(settings=settings, cases=cases), separators=(",", ":")) + "\n")
print(file.stat().st_size, "bytes")
