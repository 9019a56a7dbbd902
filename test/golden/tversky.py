"""Writes tversky.json beside this file: losses and logit gradients in float64 of the Tversky variants.

The libraries themselves are not installed; `smp`, `monai`, `mmseg` and `abraham` below are written from what each
computes (guide, table 3.1), each in its own terms and not by way of one common formula, so that a preset is checked
against that library's arithmetic.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

here = pathlib.Path(__file__).parent
torch.manual_seed(11)


def numbers(t):
    return [float(v) for v in t.detach().flatten()]


def rounded(*shape, scale=1.5):
    return (torch.randn(*shape, dtype=torch.float64) * scale * 1000).round() / 1000


def planes(z):
    """[n, ..., c] to [n, c, pixels]."""
    return z.reshape(z.shape[0], -1, z.shape[-1]).transpose(1, 2)


def prepare(z, y, mode, ignore=255):
    """Probabilities and targets [n, c, pixels], and the mask of counted ones."""
    z = planes(z)
    if mode == "multiclass":
        y = y.reshape(z.shape[0], 1, -1)
        mask = (y != ignore) & (y < z.shape[1])
        t = F.one_hot((y[:, 0] * mask[:, 0]), z.shape[1]).transpose(1, 2).double()
        p = z.log_softmax(1).exp()
    else:
        y = y.reshape(y.shape[0], -1, z.shape[1]).transpose(1, 2)
        mask = (y != ignore) & (y < 2)
        t = (y == 1).double()
        p = F.logsigmoid(z).exp()
    return p, t, mask.double().expand_as(p)


def smp(z, y, mode, alpha=0.5, beta=0.5, gamma=1.0, log_loss=False, classes=None, weights=None, ignore=255):
    p, t, mask = prepare(z, y, mode, ignore)
    p, t = p * mask, t * mask
    dims = (0, 2)
    tp = (p * t).sum(dims)
    fp = (p * (1 - t)).sum(dims)
    fn = ((1 - p) * t).sum(dims)
    score = tp / (tp + alpha * fp + beta * fn).clamp_min(1e-7)
    loss = -torch.log(score.clamp_min(1e-7)) if log_loss else 1 - score
    loss = loss * (t.sum(dims) > 0)
    w = torch.ones_like(loss) if weights is None else torch.tensor(weights, dtype=torch.float64)
    if classes is not None:
        loss, w = loss[classes], w[classes]
    return ((loss * w).sum() / w.sum()) ** gamma


def monai(z, y, mode, alpha=0.5, beta=0.5, batch=False):
    p, t, _ = prepare(z, y, mode)
    dims = (0, 2) if batch else (2,)
    tp = (p * t).sum(dims)
    fp = alpha * (p * (1 - t)).sum(dims)
    fn = beta * ((1 - p) * t).sum(dims)
    return (1.0 - (tp + 1e-5) / (tp + fp + fn + 1e-5)).mean()


def mmseg(z, y, mode, alpha=0.3, beta=0.7, smooth=1.0):
    p, t, mask = prepare(z, y, mode)
    total = 0.0
    for c in range(p.shape[1]):
        tp = (p[:, c] * t[:, c] * mask[:, c]).sum(1)
        fp = (p[:, c] * (1 - t[:, c]) * mask[:, c]).sum(1)
        fn = ((1 - p[:, c]) * t[:, c] * mask[:, c]).sum(1)
        total = total + (1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)).mean()
    return total / p.shape[1]


def abraham(z, y, mode, alpha=0.7, gamma=0.75, smooth=1.0):
    p, t, mask = prepare(z, y, mode)
    p, t = (p * mask).flatten(), (t * mask).flatten()
    true_pos = (t * p).sum()
    false_neg = (t * (1 - p)).sum()
    false_pos = ((1 - t) * p).sum()
    ti = (true_pos + smooth) / (true_pos + alpha * false_neg + (1 - alpha) * false_pos + smooth)
    return (1 - ti) ** gamma


def general(z, y, mode, alpha=0.7, beta=0.3, gamma=1.0, reduce="batch", average="macro", classes=None, classWeights=None,
            emptyClass="skip", logLoss=False, powOrder="class", smoothNum=0.0, smoothDen=0.0, ignoreIndex=255):
    """The options of `tversky` by plain loops, for what no library has."""
    p, t, mask = prepare(z, y, mode, ignoreIndex)
    total, weight = 0.0, 0.0
    chosen = list(range(p.shape[1])) if classes is None else classes
    images = [slice(i, i + 1) for i in range(p.shape[0])] if reduce == "image" else [slice(None)]
    for image in images:
        for group in [chosen] if average == "micro" else [[k] for k in chosen]:
            q, u, m = p[image][:, group], t[image][:, group], mask[image][:, group]
            w = 1.0 if classWeights is None else classWeights[group[0]]
            tp, fp, fn = (q * u * m).sum(), (q * (1 - u) * m).sum(), ((1 - q) * u * m).sum()
            if (u * m).sum() == 0 and emptyClass != "count":
                weight += w if emptyClass == "zero" else 0.0
                continue
            ti = (tp + smoothNum) / (tp + alpha * fp + beta * fn + smoothDen).clamp_min(1e-7)
            loss = -torch.log(ti.clamp_min(1e-7)) if logLoss else 1 - ti
            total = total + w * (loss ** (1 / gamma) if powOrder == "class" else loss)
            weight += w
    mean = total / weight
    return mean ** (1 / gamma) if powOrder == "mean" else mean


def case(name, shape, mode, fn, options, preset=None, empty=None, ignored=0.0, **arguments):
    z = rounded(*shape).requires_grad_()
    label_shape = shape[:-1] if mode != "multilabel" else shape
    y = torch.randint(0, shape[-1] if mode == "multiclass" else 2, label_shape)
    if empty is not None:
        y[y == empty] = 0
    y[torch.rand(label_shape) < ignored] = 255
    loss = fn(z, y, mode, **arguments)
    loss.backward()
    return dict(
        name=name, mode=mode, preset=preset, options=options, shape=shape, logits=numbers(z), labelShape=label_shape,
        labels=[int(v) for v in y.flatten()], loss=loss.item(), gradient=numbers(z.grad),
    )


def ours(name, shape, mode, ignored=0.0, empty=None, **options):
    return case(name, shape, mode, general, options, ignored=ignored, empty=empty, **options)


S = [2, 3, 3, 4]
cases = [
    case("smp multiclass", S, "multiclass", smp, {}, "smp"),
    case("smp .7/.3, absent class, ignored", S, "multiclass", smp, dict(alpha=0.7, beta=0.3), "smp", empty=2, ignored=0.3, alpha=0.7, beta=0.3),
    case("smp gamma .75 after the mean", S, "multiclass", smp, dict(gamma=4 / 3), "smp", empty=1, gamma=0.75),
    case("smp log loss", S, "multiclass", smp, dict(logLoss=True), "smp", empty=1, log_loss=True),
    case("smp classes", S, "multiclass", smp, dict(classes=[1, 3]), "smp", classes=[1, 3]),
    case("smp class weights", S, "multiclass", smp, dict(classWeights=[0.1, 2, 1, 3]), "smp", empty=2, weights=[0.1, 2, 1, 3]),
    case("smp binary", [2, 4, 3, 1], "binary", smp, {}, "smp", ignored=0.2),
    case("smp multilabel", [2, 3, 3, 3], "multilabel", smp, {}, "smp", ignored=0.2),
    case("monai softmax", S, "multiclass", monai, {}, "monai", empty=3),
    case("monai .2/.8, batch", S, "multiclass", monai, dict(alpha=0.2, beta=0.8, reduce="batch"), "monai", alpha=0.2, beta=0.8, batch=True),
    case("monai sigmoid", [3, 2, 2, 2], "multilabel", monai, {}, "monai"),
    case("mmseg", S, "multiclass", mmseg, {}, "mmseg", empty=1, ignored=0.3),
    case("abraham", [2, 3, 3, 3], "multiclass", abraham, {}, "abraham", ignored=0.2),
    case("abraham binary", [3, 3, 2, 1], "binary", abraham, {}, "abraham"),
    ours("defaults", S, "multiclass"),
    ours("skip, per image", [3, 2, 2, 4], "multiclass", reduce="image", ignored=0.2),
    ours("zero, per image", [3, 2, 2, 4], "multiclass", reduce="image", emptyClass="zero", gamma=1.5),
    ours("count, smoothed", [3, 2, 2, 4], "multiclass", reduce="image", emptyClass="count", smoothNum=0.5, smoothDen=2.0),
    ours("micro, per image", [3, 2, 2, 4], "multiclass", reduce="image", average="micro", gamma=2.0),
    ours("micro, subset", S, "multiclass", average="micro", classes=[0, 2], smoothDen=1.0),
    ours("weights and subset", S, "multiclass", classWeights=[1, 0.5, 2, 9], classes=[0, 1, 2], gamma=4 / 3),
    ours("focal by class", S, "multiclass", gamma=4 / 3),
    ours("focal by mean", S, "multiclass", gamma=4 / 3, powOrder="mean"),
    ours("log, focal by mean, weights", S, "multiclass", gamma=0.8, powOrder="mean", logLoss=True, classWeights=[1, 2, 3, 4]),
    ours("ignored class", S, "multiclass", ignoreIndex=2),
    ours("binary per image", [3, 3, 2, 1], "binary", reduce="image", ignored=0.2, logLoss=True),
    ours("multilabel per image", [2, 3, 3, 3], "multilabel", reduce="image", ignored=0.2, gamma=2.0),
]
(here / "tversky.json").write_text(json.dumps(cases))
