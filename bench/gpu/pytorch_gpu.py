"""PyTorch's side of `npm run gpu` (kernels.mjs, step.mjs): asked case by case, one line of JSON each, on the same card.

channels_last, cudnn.benchmark, bf16 tensors or tf32; losses also with contiguous maps and by torch.compile, of which the
fastest counts. Kernels are timed as ours are: many launches over operands in turn, captured as a CUDA graph where PyTorch
can do that ("graph"), else launched one after the other ("events"); device events around them, medians.
Run by hand: echo '{"do": "hello"}' | python3 pytorch_gpu.py 8 --channels-last
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
from deeplab_torch import DeepLab50  # noqa: E402
from pytorch import fill, nchw, sample, truth, tversky, values  # noqa: E402

SMALL = "--small" in sys.argv
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
LAST, FIRST = torch.channels_last, torch.contiguous_format
REPLAY_MS = 5
MOST_LAUNCHES = 2000


def milliseconds(run):
    if CUDA:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    before = time.perf_counter()
    run()
    return (time.perf_counter() - before) * 1e3


def timed(sets, launch, repetitions):
    """Median milliseconds of one launch; bench/gpu/timing.mjs `timed`, by the same rules."""
    kept = [None] * sets

    def turns(rounds):
        for i in range(rounds * sets):
            kept[i % sets] = None
            kept[i % sets] = launch(i % sets)

    stream = torch.cuda.Stream() if CUDA else None
    if CUDA:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            turns(3)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
    else:
        turns(1)
    took = milliseconds(lambda: turns(1))
    rounds = max(1, min(math.ceil(REPLAY_MS / took), MOST_LAUNCHES // sets))
    run, how = (lambda: turns(rounds)), "events" if CUDA else "clock"
    if CUDA:
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                turns(rounds)
            run, how = graph.replay, "graph"
        except Exception:  # not everything can be captured
            torch.cuda.synchronize()
            kept[:] = [None] * sets
    for _ in range(3):
        milliseconds(run)
    return statistics.median(milliseconds(run) for _ in range(repetitions)) / (rounds * sets), how


def use(precision):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def normal(shape, dtype, memory_format=LAST, scale=1.0):
    """Of our shape [n, h, w, c]."""
    n, h, w, c = shape
    t = torch.randn((n, c, h, w), device=DEVICE).mul_(scale).to(dtype)
    return t.contiguous(memory_format=memory_format)


class Conv:
    def __init__(self, case, dtype, sets):
        self.geometry = [[case[key]] * 2 for key in ("stride", "padding", "dilation")]
        self.groups = case["groups"]
        scale = 1 / math.sqrt(math.prod(case["w"][1:]))
        self.x = [normal(case["x"], dtype) for _ in range(sets)]
        self.w = [normal(case["w"], dtype, scale=scale) for _ in range(sets)]
        shape = self.forward(0).shape
        self.dy = [torch.randn(shape, device=DEVICE).to(dtype).contiguous(memory_format=LAST) for _ in range(sets)]

    def forward(self, i):
        return F.conv2d(self.x[i], self.w[i], None, *self.geometry, self.groups)

    def backward(self, i, mask):
        stride, padding, dilation = self.geometry
        return torch.ops.aten.convolution_backward(
            self.dy[i], self.x[i], self.w[i], None, stride, padding, dilation, False, [0, 0], self.groups, mask
        )

    def launches(self):
        return dict(
            forward=self.forward,
            gradInput=lambda i: self.backward(i, [True, False, False]),
            gradWeight=lambda i: self.backward(i, [False, True, False]),
            both=lambda i: (self.forward(i), self.backward(i, [True, True, False])),
        )


class MapOp:
    """Forward and backward through autograd, of a function of one map and what goes with it."""

    def __init__(self, case, dtype, sets, memory_format, compiled):
        op, c = case["op"], case["x"][3]
        self.x = [normal(case["x"], dtype, memory_format).requires_grad_() for _ in range(sets)]
        size, aligned = case.get("size"), case.get("alignCorners", False)
        resize = lambda x: F.interpolate(x, size, mode="bilinear", align_corners=aligned)
        self.more = [[] for _ in range(sets)]
        if op == "batchNorm":
            mean, var = torch.zeros(c, device=DEVICE), torch.ones(c, device=DEVICE)
            self.more = [[torch.randn(c, device=DEVICE, requires_grad=True) for _ in range(2)] for _ in range(sets)]
            norm = lambda x, gamma, beta: F.batch_norm(x, mean, var, gamma, beta, True, 0.1, 1e-5)
            f = (lambda *xs: F.relu(norm(*xs))) if case.get("relu") else norm
        elif op == "resizeBilinear":
            f = resize
        elif op == "maxPool":
            f = lambda x: F.max_pool2d(x, 3, 2, 1)
        elif op == "softmax":
            f = lambda x: F.softmax(x, 1)
        else:
            n, h, w, _ = case["x"]
            h, w = size if op == "upsampledTversky" else (h, w)
            y = [torch.randint(c, (n, h, w), device=DEVICE) for _ in range(sets)]
            self.more = [[t] for t in y]
            loss = F.cross_entropy if op == "crossEntropy" else tversky
            f = (lambda x, y: loss(resize(x), y)) if op == "upsampledTversky" else loss
        self.f = torch.compile(f) if compiled else f
        shape = self.f(self.x[0], *self.more[0]).shape
        self.dy = [
            torch.randn(shape, device=DEVICE).to(dtype).contiguous(memory_format=memory_format) if shape else None
            for _ in range(sets)
        ]

    def both(self, i):
        leaves = [self.x[i], *(t for t in self.more[i] if t.requires_grad)]
        y = self.f(self.x[i], *self.more[i])
        return y.detach(), torch.autograd.grad(y, leaves, self.dy[i])


def time_map(case, dtype, sets, repetitions):
    losses = case["op"] in ("softmax", "crossEntropy", "tversky", "upsampledTversky", "resizeBilinear")
    formats = [LAST, FIRST] if losses else [LAST]
    best = {}
    for compiled in [False, True] if CUDA and case["bars"].get("compiled") else [False]:
        for memory_format in formats:
            made = MapOp(case, dtype, sets, memory_format, compiled)
            ms, how = timed(sets, made.both, repetitions)
            del made
            key = "compiled" if compiled else "eager"
            if key not in best or ms < best[key]:
                best[key] = ms
                best["how"] = how
    return dict(both=best)


def time_optimiser(case, repetitions):
    w = torch.randn(case["x"][3], device=DEVICE).mul_(0.1).requires_grad_()
    w.grad = torch.randn_like(w) * 0.1
    if case["op"] == "sgd":
        optimiser = torch.optim.SGD([w], 1e-3, momentum=0.9, weight_decay=1e-2, fused=True)
    else:
        optimiser = torch.optim.AdamW([w], 1e-3, weight_decay=1e-2, fused=True, capturable=CUDA)
    ms, how = timed(1, lambda _: optimiser.step(), repetitions)
    return dict(both=dict(eager=ms, how=how))


def time_kernel(request):
    case, sets, repetitions = request["case"], request["sets"], request["repetitions"]
    dtype = use(request["precision"])
    if case["op"] in ("sgd", "adamw"):
        return time_optimiser(case, repetitions)
    if case["op"] != "conv2d":
        return time_map(case, dtype, sets, repetitions)
    launches = Conv(case, dtype, sets).launches()
    result = {}
    for direction in request["directions"]:
        ms, how = timed(sets, launches[direction], repetitions)
        result[direction] = dict(eager=ms, how=how)
    return result


def bandwidth(repetitions):
    a = torch.ones(1 << (16 if SMALL else 28), device=DEVICE)
    b = torch.zeros_like(a)
    ms, _ = timed(1, lambda _: b.copy_(a), repetitions)
    return 8 * a.numel() / (ms / 1e3)


class Step:
    """Forward under autocast where bf16 is asked for, losses in f32, backward, SGD with momentum."""

    def __init__(self, case, precision, compiled):
        use(precision)
        n, h, w, _ = case["x"]
        self.half = precision == "bf16"
        self.losses = case["losses"]
        self.model = DeepLab50(case["classes"], case["width"], case["variant"]).to(DEVICE, memory_format=LAST).train()
        self.x = normal(case["x"], torch.float32)
        self.y = torch.randint(case["classes"], (n, h, w), device=DEVICE)
        self.optimiser = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)
        self.loss = torch.compile(self.plain_loss) if compiled else self.plain_loss

    def plain_loss(self, x, y):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.half):
            logits = self.model(x)
        logits = logits.float()
        functions = dict(crossEntropy=F.cross_entropy, tversky=tversky)
        return sum(functions[name](logits, y) for name in self.losses)

    def step(self):
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(self.x, self.y).backward()
        self.optimiser.step()


def time_step(request):
    result = dict(parameters=None, ms={})
    for compiled in [False, True] if request["compile"] and CUDA else [False]:
        key = "compiled" if compiled else "eager"
        try:
            step = Step(request["case"], request["precision"], compiled)
            for _ in range(2 if SMALL else 10):
                step.step()
            result["parameters"] = sum(p.numel() for p in step.model.parameters())
            result["ms"][key] = statistics.median(milliseconds(step.step) for _ in range(request["repetitions"]))
            del step
        except Exception as error:
            result["ms"][key] = None
            result[f"{key}Error"] = f"{type(error).__name__}: {error}"[:500]
        if CUDA:
            torch.cuda.empty_cache()
    return result


def check_step(case):
    """Loss and gradients at weights that both sides know, without dropout, in f32: bench/peers/pytorch.py `StepCase.check`."""
    step = Step(case, "f32", False)
    fill(step.model)
    for module in step.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x, y = nchw(values(case["x"], 1)).to(DEVICE), truth(case["x"], case["classes"]).to(DEVICE)
    loss = step.plain_loss(x, y)
    named = dict(step.model.named_parameters())
    gradients = torch.autograd.grad(loss, [named[name] for name in sorted(named)])
    return [[loss.item()], [math.hypot(*sample(g)) for g in gradients]]


def answer(request):
    what = request["do"]
    if what == "hello":
        if not CUDA and not SMALL:
            raise RuntimeError(f"torch {torch.__version__} sees no CUDA device")
        name = torch.cuda.get_device_name() if CUDA else "CPU"
        return dict(version=torch.__version__, device=name, cudnn=torch.backends.cudnn.version())
    if what == "bandwidth":
        return dict(bytesPerSecond=bandwidth(request["repetitions"]))
    if what == "kernel":
        return dict(ms=time_kernel(request))
    if what == "step":
        return time_step(request)
    if what == "check":
        return dict(samples=check_step(request["case"]))
    raise ValueError(f"cannot do {what!r}")


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # the benchmark goes on with the next case
            reply = dict(error=f"{type(error).__name__}: {error}"[:500])
        if CUDA:
            torch.cuda.empty_cache()
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
