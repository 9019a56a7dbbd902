"""DeepLabV3+ ResNet-50 at output stride 16 in PyTorch: src/models/deeplab_v3_plus.ts, variants "vainf" and "paper", layer for
layer and name for name, so that both sides can be given the same weights."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from pytorch import conv, pointwise, relu, separable


class Bottleneck(nn.Module):
    def __init__(self, cin, planes, cout, stride, dilation, project, momentum):
        super().__init__()
        norm = lambda c: nn.BatchNorm2d(c, momentum=momentum)
        self.conv1, self.bn1 = conv(cin, planes, 1), norm(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride, dilation), norm(planes)
        self.conv3, self.bn3 = conv(planes, cout, 1), norm(cout)
        self.relu = relu()
        self.downsample = nn.Sequential(conv(cin, cout, 1, stride), norm(cout)) if project else None

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet50(nn.Module):
    """The last stage keeps its size and dilates all blocks but its first."""

    def __init__(self, width, momentum):
        super().__init__()
        cin = width(64)
        self.out = width(256), width(2048)
        self.conv1, self.bn1, self.relu = conv(3, cin, 7, 2), nn.BatchNorm2d(cin, momentum=momentum), relu()
        for i, (blocks, stride, rest) in enumerate([(3, 1, 1), (4, 2, 1), (6, 2, 1), (3, 1, 2)]):
            planes, cout = width(64 * 2**i), width(256 * 2**i)
            stage = []
            for k in range(blocks):
                stage.append(Bottleneck(cin, planes, cout, stride if k == 0 else 1, rest if k else 1, k == 0, momentum))
                cin = cout
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))

    def forward(self, x):
        low = self.layer1(F.max_pool2d(self.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        return low, self.layer4(self.layer3(self.layer2(low)))


def dense(cin, cout, dilation=1):
    return [conv(cin, cout, 3, 1, dilation), nn.BatchNorm2d(cout), relu()]


class ASPP(nn.Module):
    def __init__(self, cin, cout, spatial):
        super().__init__()
        branches = [pointwise(cin, cout), *(spatial(cin, cout, rate) for rate in (6, 12, 18))]
        branches.append([nn.AdaptiveAvgPool2d(1), *pointwise(cin, cout)])
        self.convs = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.project = nn.Sequential(*pointwise(5 * cout, cout), nn.Dropout(0.1))

    def forward(self, x):
        ys = [branch(x) for branch in self.convs]
        ys[4] = F.interpolate(ys[4], x.shape[2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat(ys, 1))


class Decoder(nn.Module):
    def __init__(self, low, high, reduced, head, variant):
        super().__init__()
        self.aligned = variant == "paper"
        spatial = separable if variant == "paper" else dense
        self.aspp = nn.Sequential(ASPP(high, head, spatial))
        self.block1 = nn.Sequential(*pointwise(low, reduced))
        more = spatial(head, head) if variant == "paper" else []
        self.block2 = nn.Sequential(*spatial(head + reduced, head), *more)

    def forward(self, low, high):
        up = F.interpolate(self.aspp(high), low.shape[2:], mode="bilinear", align_corners=self.aligned)
        return self.block2(torch.cat([up, self.block1(low)], 1))


class DeepLab50(nn.Module):
    def __init__(self, classes, factor, variant):
        super().__init__()
        width = lambda c: max(8, 8 * math.floor(c * factor / 8 + 0.5))
        self.aligned = variant == "paper"
        self.encoder = ResNet50(width, 0.1 if variant == "paper" else 0.01)
        self.decoder = Decoder(*self.encoder.out, width(48), width(256), variant)
        self.segmentation_head = nn.Sequential(conv(width(256), classes, 1, bias=True))

    def forward(self, x):
        logits = self.segmentation_head(self.decoder(*self.encoder(x)))
        return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=self.aligned)
