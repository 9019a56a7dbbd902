import { CheckpointError } from "../errors.js";
import { type Shape, sameShape, sizeOf, type TensorData } from "../shape.js";

/** Whose names the arrays bear: segmentation_models.pytorch, VainF's DeepLabV3Plus-Pytorch, or torchvision's classifiers. */
export type PyTorchSource = "smp" | "vainf" | "torchvision";

/** One array of a state_dict, in PyTorch's layout (convolution weights `[cout, cin / groups, kh, kw]`). */
export interface PyTorchArray {
  readonly shape: Shape;
  readonly data: ArrayLike<number>;
}

/** What the importer needs of a parameter or running statistic; `Parameter` of nn is one. */
interface Entry {
  readonly shape: Shape;
  assign(values: ArrayLike<number>): void;
  data(): Promise<TensorData>;
}

/** What the importer needs of a model; `DeepLabV3Plus` is one. */
export interface PyTorchTarget {
  readonly backbone: string;
  readonly channels: { readonly aspp: number; readonly reducedLowLevel: number };
  declared(): ReadonlyMap<string, Entry>;
}

export interface ImportOptions {
  readonly from: PyTorchSource;
  /** Throws where anything is missing, extra or misshapen, and then changes nothing; default true. */
  readonly strict?: boolean;
  /** Named in errors; default "state_dict". */
  readonly file?: string;
}

/** What an import did: names of the model for `loaded` and `missing`, of the source for `extra` and `misshapen`. */
export interface ImportReport {
  readonly loaded: readonly string[];
  readonly missing: readonly string[];
  readonly extra: readonly string[];
  readonly misshapen: readonly string[];
}

/**
 * The name a parameter of ours has in another library, or null where it has none (torchvision has encoders only).
 * segmentation_models.pytorch's names are ours, but for Xception, which it takes from timm.
 */
export function pyTorchName(name: string, backbone: string, source: PyTorchSource): string | null {
  switch (source) {
    case "smp":
      return backbone === "xception65" ? name.replace(/^encoder\.(stem|blocks)\.(\d+)/, "encoder.model.$1_$2") : name;
    case "torchvision":
      return name.startsWith("encoder.") ? name.slice("encoder.".length) : null;
    case "vainf":
      return vainfPrefixes.reduce((renamed, [ours, theirs]) => renamed.replace(ours, theirs), name);
  }
}

/** At most one of them matches a name. MobileNet's blocks keep their numbers in both halves. */
const vainfPrefixes: readonly (readonly [RegExp, string])[] = [
  [/^encoder\.features\.([0-3])\./, "backbone.low_level_features.$1."],
  [/^encoder\.features\./, "backbone.high_level_features."],
  [/^encoder\./, "backbone."],
  [/^decoder\.aspp\.0\./, "classifier.aspp."],
  [/^decoder\.block1\./, "classifier.project."],
  [/^decoder\.block2\./, "classifier.classifier."],
  [/^segmentation_head\.0\./, "classifier.classifier.3."],
];

/** Entries that no model of ours has a place for: step counters of batch normalisation, and image classifiers. */
const ignored: Readonly<Record<PyTorchSource, RegExp>> = {
  smp: /\.num_batches_tracked$|^classification_head\./,
  vainf: /\.num_batches_tracked$/,
  torchvision: /\.num_batches_tracked$|^fc\.|^classifier\.|^features\.18\./,
};

/** The weight whose inputs are [ASPP, low level] with us, as in the paper, and [low level, ASPP] with VainF. */
const decoderWeight = "decoder.block2.0.weight";

/** @internal The first convolution, whose inputs are the image's bands. */
export const isStem = (name: string) =>
  name === "encoder.conv1.weight" || name === "encoder.features.0.0.weight" || name === "encoder.stem.0.conv.weight";

/** @internal How a state_dict fits a model; nothing has been changed. */
export interface PyTorchMatch {
  /** Entries of the model with the values they would get. */
  readonly ready: readonly { readonly name: string; readonly entry: Entry; readonly values: Float32Array }[];
  readonly missing: readonly string[];
  /** Name in the model and in the source. */
  readonly misshapen: readonly { readonly name: string; readonly foreign: string }[];
  readonly extra: readonly string[];
}

/** @internal */
export function matchPyTorch(
  model: PyTorchTarget,
  arrays: ReadonlyMap<string, PyTorchArray>,
  from: PyTorchSource,
): PyTorchMatch {
  const ready: { name: string; entry: Entry; values: Float32Array }[] = [];
  const missing: string[] = [];
  const misshapen: { name: string; foreign: string }[] = [];
  const known = new Set<string>();
  for (const [name, entry] of model.declared()) {
    const foreign = pyTorchName(name, model.backbone, from);
    if (foreign === null) continue;
    known.add(foreign);
    const array = arrays.get(foreign);
    if (!array) {
      missing.push(name);
      continue;
    }
    const values = convert(name, entry.shape, array, model, from);
    if (values) ready.push({ name, entry, values });
    else misshapen.push({ name, foreign });
  }
  const extra = [...arrays.keys()].filter((name) => !known.has(name) && !ignored[from].test(name));
  return { ready, missing, misshapen, extra };
}

/**
 * Fills a model from a PyTorch state_dict: names are translated, convolution weights transposed from
 * `[cout, cin, kh, kw]` to `[cout, kh, kw, cin]`, the decoder's input channels put in our order, and a stem for three
 * channels adapted to the model's (one: the sum; n: repeated in turn, times 3 / n; smp's rule). "torchvision" fills the
 * encoder and reports nothing else as missing.
 * @throws CheckpointError listing the names, where strict and they do not fit one to one.
 */
export function importPyTorch(
  model: PyTorchTarget,
  arrays: ReadonlyMap<string, PyTorchArray>,
  { from, strict = true, file = "state_dict" }: ImportOptions,
): ImportReport {
  const { ready, missing, misshapen, extra } = matchPyTorch(model, arrays, from);
  if (strict) {
    const problems = [
      ...missing.map((name) => `missing: ${pyTorchName(name, model.backbone, from)}`),
      ...misshapen.map(({ foreign }) => `misshapen: ${foreign}`),
      ...extra.map((name) => `extra: ${name}`),
    ];
    if (problems.length > 0) throw new CheckpointError(file, `does not fit the model as ${from} names it`, problems);
  }
  for (const { entry, values } of ready) entry.assign(values);
  const loaded = ready.map(({ name }) => name);
  return { loaded, missing, extra, misshapen: misshapen.map(({ foreign }) => foreign) };
}

/**
 * The model's parameters and running statistics under another library's names, in PyTorch's layout: the inverse of
 * `importPyTorch`. Batch normalisation's step counters are left out: load with `strict=False`.
 */
export async function exportPyTorch(
  model: PyTorchTarget,
  to: PyTorchSource,
): Promise<Map<string, { shape: Shape; data: Float32Array }>> {
  const arrays = new Map<string, { shape: Shape; data: Float32Array }>();
  for (const [name, entry] of model.declared()) {
    const foreign = pyTorchName(name, model.backbone, to);
    if (foreign === null) continue;
    const data = await entry.data();
    if (entry.shape.length !== 4) {
      arrays.set(foreign, { shape: entry.shape, data: Float32Array.from(data) });
      continue;
    }
    const [cout, kh, kw, cin] = entry.shape as [number, number, number, number];
    const source = inputOrder(name, cin, model, to);
    const turned = new Float32Array(data.length);
    for (let o = 0; o < cout; o++) {
      for (let c = 0; c < cin; c++) {
        for (let p = 0; p < kh * kw; p++) {
          turned[(o * cin + source(c)) * kh * kw + p] = data[(o * kh * kw + p) * cin + c]!;
        }
      }
    }
    arrays.set(foreign, { shape: [cout, cin, kh, kw], data: turned });
  }
  return arrays;
}

/** The values of `array` as our parameter `name` of shape `wanted` holds them, or null where shapes do not fit. */
function convert(
  name: string,
  wanted: Shape,
  array: PyTorchArray,
  model: PyTorchTarget,
  from: PyTorchSource,
): Float32Array | null {
  if (array.data.length !== sizeOf(array.shape)) return null;
  if (wanted.length !== 4) return sameShape(array.shape, wanted) ? Float32Array.from(array.data) : null;
  const [cout, kh, kw, cin] = wanted as [number, number, number, number];
  const given = array.shape[1] ?? 0;
  const adapted = isStem(name) && given === 3 && cin !== 3;
  if (!sameShape(array.shape, [cout, adapted ? 3 : cin, kh, kw])) return null;
  const area = kh * kw;
  const at = (o: number, c: number, p: number) => array.data[(o * given + c) * area + p]!;
  const source = inputOrder(name, cin, model, from);
  const value = !adapted
    ? (o: number, c: number, p: number) => at(o, source(c), p)
    : cin === 1
      ? (o: number, _c: number, p: number) => at(o, 0, p) + at(o, 1, p) + at(o, 2, p)
      : (o: number, c: number, p: number) => (at(o, c % 3, p) * 3) / cin;
  const values = new Float32Array(cout * area * cin);
  for (let o = 0; o < cout; o++) {
    for (let p = 0; p < area; p++) {
      for (let c = 0; c < cin; c++) values[(o * area + p) * cin + c] = value(o, c, p);
    }
  }
  return values;
}

/** Where our input channel `c` of a weight stands in the other library. */
function inputOrder(name: string, cin: number, model: PyTorchTarget, library: PyTorchSource): (c: number) => number {
  const { aspp, reducedLowLevel } = model.channels;
  if (library !== "vainf" || name !== decoderWeight || cin !== aspp + reducedLowLevel) return (c) => c;
  return (c) => (c < aspp ? c + reducedLowLevel : c - aspp);
}
