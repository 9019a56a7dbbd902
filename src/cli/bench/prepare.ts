// One side of every case: operands on the device, and what is timed.
import { differentiable, differentiate } from "../../autograd.js";
import type { Device } from "../../device.js";
import { binaryCrossEntropy, crossEntropy, tversky } from "../../losses.js";
import { DeepLabV3Plus, DomainDiscriminator } from "../../models/index.js";
import { MultiLoss } from "../../multi_loss.js";
import { Dropout, foldBatchNorms, type Module } from "../../nn/index.js";
import {
  add,
  addScalar,
  batchNorm,
  conv2d,
  div,
  matmul,
  mean,
  mul,
  neg,
  oneHot,
  resizeBilinear,
  reverseGradient,
  scale,
  softmax,
  sub,
  sum,
} from "../../ops/index.js";
import { AdamW, type Optimizer, parameterGroups, SGD } from "../../optim/index.js";
import { type Shape, sizeOf } from "../../shape.js";
import { dispose, scope, Tensor } from "../../tensor.js";
import type { Case, DilatedStep, Direction, Map4, Step, Update } from "./cases.js";
import { DilatedNet } from "./dilated_net.js";
import { labels, sample, values, weights } from "./values.js";

type Op = Exclude<Case, Step | DilatedStep | Update>;

export interface Prepared {
  /** What is timed. To be called inside `scope`. */
  readonly run: Readonly<Partial<Record<Exclude<Direction, "backward">, () => void>>>;
  /**
   * Bytes of operands and results, each counted once: what a direction has to move at least. Absent for whole steps,
   * whose kernels are counted.
   */
  readonly bytes?: Readonly<Partial<Record<Direction, number>>>;
  /** Samples of results and gradients, to compare with another engine's. */
  check(): Promise<number[][]>;
}

export function prepare(device: Device, one: Case): Prepared {
  switch (one.op) {
    case "step":
    case "inference":
    case "adaptation":
      return prepareStep(device, one);
    case "dilatedStep":
      return prepareDilated(device, one);
    case "optimiser":
      return prepareUpdate(device, one);
    default:
      return prepareOp(device, one);
  }
}

function prepareOp(device: Device, one: Op): Prepared {
  const { forward, leaves, constants, isLoss } = operands(device, one);
  const y = scope(forward);
  const dy = isLoss ? null : Tensor.from(device, values(y.size, 9), y.shape);
  const bytesOf = (tensors: readonly Tensor[]) => tensors.reduce((total, t) => total + t.bytes, 0);
  const [read, written] = [bytesOf(leaves) + bytesOf(constants), y.bytes];
  const backward = read + written + bytesOf(leaves); // operands and dy read, their gradients written
  y.dispose();
  const both = () =>
    differentiate(leaves, () => {
      const result = forward();
      return { loss: dy ? seeded(result, dy) : result, result };
    });
  return {
    run: { forward, both },
    bytes: { forward: read + written, backward, both: read + written + backward },
    async check() {
      const { values: made, gradients } = scope(both);
      const samples = await samplesOf([made.result, ...gradients]);
      dispose(made, gradients);
      return samples;
    },
  };
}

/**
 * A loss whose gradient with respect to `y` is `dy` and that costs nothing: what PyTorch's `y.backward(dy)` is. Any real
 * loss would add kernels of its own to the time.
 */
const seeded = (y: Tensor, dy: Tensor): Tensor =>
  differentiable([y], [dy], Tensor.zeros(y.device, []), (_, [seed]) => [seed.alias()]);

interface Operands {
  readonly forward: () => Tensor;
  /** What is differentiated with respect to. */
  readonly leaves: readonly Tensor[];
  readonly constants: readonly Tensor[];
  readonly isLoss: boolean;
}

function operands(device: Device, one: Op): Operands {
  const random = (shape: Shape, seed: number, scale = 1) =>
    Tensor.from(device, values(sizeOf(shape), seed, scale), shape);
  const op = (forward: () => Tensor, leaves: readonly Tensor[], constants: readonly Tensor[] = []) => {
    return { forward, leaves, constants, isLoss: false };
  };
  if (one.op === "matmul") {
    const [a, b] = [random([one.m, one.k], 1), random([one.k, one.n], 2, Math.sqrt(3 / one.k))];
    return op(() => matmul(a, b), [a, b]);
  }
  const x = random(one.x, 1);
  const loss = (forward: () => Tensor, y: Tensor) => ({ forward, leaves: [x], constants: [y], isLoss: true });
  switch (one.op) {
    case "conv2d": {
      const { stride, padding, dilation, groups, image } = one;
      const w = random(one.w, 2, Math.sqrt(3 / sizeOf(one.w.slice(1))));
      const forward = () => conv2d(x, w, { stride, padding, dilation, groups });
      return image ? op(forward, [w], [x]) : op(forward, [x, w]);
    }
    case "batchNorm":
    case "batchNormRelu": {
      const c = one.x.slice(3);
      const [gamma, beta] = [random(c, 2), random(c, 3)];
      const state = { gamma, beta, runningMean: Tensor.zeros(device, c), runningVar: Tensor.ones(device, c) };
      const relu = one.op === "batchNormRelu";
      return op(() => batchNorm(x, state, { mode: "train", relu }), [x, gamma, beta]);
    }
    case "resizeBilinear": {
      const { size, alignCorners } = one;
      return op(() => resizeBilinear(x, size, { alignCorners }), [x]);
    }
    case "softmax":
      return op(() => softmax(x), [x]);
    case "crossEntropy":
    case "tversky":
    case "plainTversky": {
      const y = truth(device, one.x, one.x[3]);
      const compute = { crossEntropy, tversky, plainTversky }[one.op];
      return loss(() => compute(x, y), y);
    }
    case "upsampledTversky": {
      const { size, alignCorners } = one;
      const y = truth(device, [one.x[0], ...size, one.x[3]], one.x[3]);
      return loss(() => tversky(x, y, { upsample: { alignCorners } }), y);
    }
  }
}

/** What `tversky` computes in kernels of its own, as it is usually written. Every class must have a pixel. */
function plainTversky(logits: Tensor, labels: Tensor): Tensor {
  const classes = logits.shape.at(-1)!;
  const [p, truth] = [softmax(logits), oneHot(labels, classes)]; // [n, h, w, c]
  const perClass = (t: Tensor) => sum(t, { axes: [0, 1, 2] }); // [c]
  const [tp, predicted, actual] = [perClass(mul(p, truth)), perClass(p), perClass(truth)];
  const [fp, fn] = [sub(predicted, tp), sub(actual, tp)];
  const index = div(tp, add(tp, add(scale(fp, 0.7), scale(fn, 0.3))));
  return mean(addScalar(neg(index), 1));
}

function prepareUpdate(device: Device, one: Update): Prepared {
  const count = one.parameters;
  const w = Tensor.from(device, values(count, 1), [count]);
  const dw = Tensor.from(device, values(count, 2), [count]);
  const optimiser = new AdamW([{ name: "all", parameters: [w], lr: 1e-3, weightDecay: 1e-2 }]);
  const step = () => optimiser.step([dw]);
  return {
    run: { step },
    bytes: { step: 7 * 4 * count }, // w, m, v and dw read, w, m, v written
    async check() {
      step();
      return samplesOf([w]);
    },
  };
}

/** Operands of a whole step, and the step. */
function prepareStep(device: Device, one: Step): Prepared {
  const { classes, width, lr, weightDecay } = one;
  const model = new DeepLabV3Plus(device, { backbone: "resnet18", classes, width });
  const x = Tensor.from(device, values(sizeOf(one.x), 1), one.x);
  if (one.op === "inference") {
    model.eval();
    setWeights(model.parameters()); // which stay: from here on the folded ones are used
    foldBatchNorms(model);
    return {
      run: { step: () => void model.forward(x) },
      async check() {
        const logits = scope(() => model.forward(x));
        const samples = await samplesOf([logits]);
        logits.dispose();
        return samples;
      },
    };
  }
  const y = truth(device, one.x, classes);
  const objective = one.op === "step" ? supervised(model, x, y) : adversarial(device, model, one.x, x, y);
  const optimiser = new AdamW(parameterGroups(objective.parameters, { lr, weightDecay }));
  return training(model, objective, optimiser);
}

function prepareDilated(device: Device, one: DilatedStep): Prepared {
  const model = new DilatedNet(device, one.classes);
  const x = Tensor.from(device, values(sizeOf(one.x), 1), one.x);
  const y = truth(device, one.x, one.classes);
  const parameters = model.parameters();
  const group = { name: "all", parameters: [...parameters.values()], lr: one.lr, weightDecay: 0 };
  const optimiser = new SGD([group], { momentum: one.momentum });
  return training(model, { parameters, lossOf: () => crossEntropy(model.forward(x), y) }, optimiser);
}

function training(model: Module, { parameters, lossOf }: Objective, optimiser: Optimizer): Prepared {
  const gradientsOf = (of: readonly Tensor[]) => differentiate(of, () => ({ loss: lossOf() }));
  const dropouts = [...model.modules().values()].filter((m) => m instanceof Dropout);
  const setDropout = (rate: number) => {
    for (const m of dropouts) Object.assign(m, { rate });
  };
  return {
    run: { step: () => optimiser.step(gradientsOf(optimiser.parameters).gradients) },
    /** The loss, and the norm of each gradient, at weights that both sides know and without dropout. */
    async check() {
      setDropout(0);
      const ordered = setWeights(parameters);
      const { values: made, gradients } = scope(() => gradientsOf(ordered));
      const norms = (await samplesOf(gradients)).map((gradient) => Math.hypot(...gradient));
      const loss = await made.loss.item();
      dispose(made, gradients);
      setDropout(0.1);
      return [[loss], norms];
    },
  };
}

interface Objective {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly lossOf: () => Tensor;
}

function supervised(model: DeepLabV3Plus, x: Tensor, y: Tensor): Objective {
  const lossOf = () => {
    const logits = model.forward(x);
    return add(crossEntropy(logits, y), tversky(logits, y));
  };
  return { parameters: model.parameters(), lossOf };
}

/** As the demo trains (src/train/demo_recipe.ts): each domain in a pass of its own. */
function adversarial(device: Device, model: DeepLabV3Plus, shape: Map4, x: Tensor, y: Tensor): Objective {
  const target = Tensor.from(device, values(sizeOf(shape), 3), shape);
  const inChannels = model.channels.decoder;
  const kind = { kind: "convolutional", width: 32, strides: [1, 1, 1], kernel: 1 } as const;
  const critic = new DomainDiscriminator(device, { ...kind, inChannels });
  const losses = new MultiLoss(device, { names: ["crossEntropy", "tversky", "domain"] });
  const named = (prefix: string, of: ReadonlyMap<string, Tensor>): [string, Tensor][] =>
    [...of].map(([name, t]) => [`${prefix}${name}`, t]);
  const lossOf = () => {
    const [source, other] = [model.features(x), model.features(target)];
    const judge = (map: Tensor, domain: 0 | 1) => binaryCrossEntropy(critic.forward(reverseGradient(map, 1)), domain);
    const domain = scale(add(judge(source.decoder, 0), judge(other.decoder, 1)), 0.5);
    const { logits } = source;
    return losses.combine({ crossEntropy: crossEntropy(logits, y), tversky: tversky(logits, y), domain }).total;
  };
  const parameters = new Map([
    ...model.parameters(),
    ...named("critic.", critic.parameters()),
    ...named("losses.", losses.parameters()),
  ]);
  return { parameters, lossOf };
}

/** Gives every parameter values that its place in the order of names makes. @returns them in that order */
function setWeights(parameters: ReadonlyMap<string, Tensor>): Tensor[] {
  const names = [...parameters.keys()].sort();
  return names.map((name, i) => {
    const t = parameters.get(name)!;
    t.assign(weights(t.shape, name, i));
    return t;
  });
}

async function samplesOf(tensors: readonly Tensor[]): Promise<number[][]> {
  const samples: number[][] = [];
  for (const t of tensors) samples.push(sample(await t.data()));
  return samples;
}

const truth = (device: Device, x: readonly number[], classes: number): Tensor =>
  Tensor.from(device, labels(sizeOf(x.slice(0, 3)), classes, 5), x.slice(0, 3), "u32");
