import { CheckpointError } from "../errors.js";
import { readSafetensors, writeSafetensors } from "./file.js";
import {
  isStem,
  matchPyTorch,
  type PyTorchArray,
  type PyTorchMatch,
  type PyTorchSource,
  type PyTorchTarget,
  pyTorchName,
} from "./import_pytorch.js";
import type { FileTensor, Safetensors } from "./safetensors.js";

/** Whose names the file's arrays bear; "lacuna": a run's checkpoint, or what `savePretrained` wrote. */
export type PretrainedSource = PyTorchSource | "lacuna";

/** A part of the model: all of its arrays are taken from the file, or none. */
export interface PretrainedPart {
  readonly part: "encoder" | "decoder" | "segmentation_head";
  /** Arrays it has. */
  readonly arrays: number;
  /** "absent": the file holds nothing of it. "unfit": something is missing or has another shape, so none was taken. */
  readonly state: "taken" | "absent" | "unfit";
  /** Arrays in the file's names, why the part is unfit: `misshapen: …`, `missing: …`. */
  readonly problems: readonly string[];
}

export interface PretrainedReport {
  readonly source: PretrainedSource;
  /** Encoder, decoder, segmentation head. */
  readonly parts: readonly PretrainedPart[];
  /** Bands that the file's first convolution takes, where it was adapted to the model's other number; else null. */
  readonly adaptedFrom: number | null;
  /** Arrays of the file that the model has no place for; optimiser state and the like of our own runs left out. */
  readonly extra: readonly string[];
}

/** Marks a file of weights in our names; its value says what they are of, for people. */
const WEIGHTS_KEY = "lacuna.weights";
const parts = ["encoder", "decoder", "segmentation_head"] as const;

/**
 * Fills a model with weights trained elsewhere, as the start of a training. The file is a safetensors file with the
 * names of segmentation_models.pytorch, VainF's DeepLabV3Plus-Pytorch, torchvision or timm (encoders), or a checkpoint
 * of ours (the moving average of its weights where it has one); which, its names tell. Prefixes that wrappers put
 * before every name (`module.`, `model.`) are passed over.
 *
 * Each part of the model is taken whole or not at all: a decoder of another variant or a head for other classes keeps its
 * first values. The encoder must be in the file. A first convolution of three bands is adapted to the model's number as
 * segmentation_models.pytorch does it: one band gets the sum, n get the three in turn, times 3 / n.
 * @throws CheckpointError where the file cannot be read or is no safetensors file (`hint` says how to convert it), or
 *   does not hold this model's encoder; the model is as it was then.
 */
export async function loadPretrained(model: PyTorchTarget, file: string): Promise<PretrainedReport> {
  const content = await readSafetensors(file);
  const own = [...content.metadata.keys()].some((key) => key.startsWith("lacuna."));
  const arrays = own ? ownArrays(content, model.backbone) : withoutPrefix(content.tensors);
  const from = own ? "smp" : sourceOf(arrays); // our names are smp's
  const match = matchPyTorch(model, arrays, from);
  const report: PretrainedReport = {
    source: own ? "lacuna" : from,
    parts: parts.map((part) => partOf(part, model, match, from)),
    adaptedFrom: adaptedFrom(model, arrays, from),
    extra: match.extra,
  };
  const encoder = report.parts[0]!;
  if (encoder.state !== "taken") {
    const reason =
      encoder.state === "absent"
        ? "holds no weights of an encoder in the names of segmentation_models.pytorch, VainF, torchvision or lacuna"
        : `does not fit the encoder ${model.backbone} (names of ${report.source})`;
    throw new CheckpointError(file, reason, encoder.problems, {
      hint: "name the backbone that the weights are of, or other weights",
    });
  }
  const taken = new Set<string>(report.parts.filter(({ state }) => state === "taken").map(({ part }) => part));
  for (const { name, entry, values } of match.ready) if (taken.has(partName(name))) entry.assign(values);
  return report;
}

/**
 * Writes those parts of a model that `loadPretrained` took to a file of our own, which `loadPretrained` reads again.
 * @param about What the weights are of, for people.
 * @throws CheckpointError where it cannot be written: an old file is as it was.
 */
export async function savePretrained(
  file: string,
  model: PyTorchTarget,
  report: PretrainedReport,
  about: Readonly<Record<string, string | number>>,
): Promise<void> {
  const taken = new Set<string>(report.parts.filter(({ state }) => state === "taken").map(({ part }) => part));
  const entries = [...model.declared()].filter(([name]) => taken.has(partName(name)));
  const tensors = await Promise.all(
    entries.map(async ([name, entry]): Promise<[string, FileTensor]> => {
      return [`model.${name}`, { dtype: "F32", shape: entry.shape, data: Float32Array.from(await entry.data()) }];
    }),
  );
  await writeSafetensors(file, new Map(tensors), new Map([[WEIGHTS_KEY, JSON.stringify(about)]]));
}

const partName = (name: string): string => name.slice(0, name.indexOf("."));

function partOf(
  part: PretrainedPart["part"],
  model: PyTorchTarget,
  { ready, missing, misshapen }: PyTorchMatch,
  from: PyTorchSource,
): PretrainedPart {
  const inside = (name: string) => partName(name) === part;
  const arrays = [...model.declared().keys()].filter(inside).length;
  const fit = ready.filter(({ name }) => inside(name)).length;
  const wrong = misshapen.filter(({ name }) => inside(name));
  if (fit === arrays) return { part, arrays, state: "taken", problems: [] };
  if (fit + wrong.length === 0) return { part, arrays, state: "absent", problems: [] };
  const problems = [
    ...wrong.map(({ foreign }) => `misshapen: ${foreign}`),
    ...missing.filter(inside).map((name) => `missing: ${pyTorchName(name, model.backbone, from)}`),
  ];
  return { part, arrays, state: "unfit", problems };
}

function adaptedFrom(
  model: PyTorchTarget,
  arrays: ReadonlyMap<string, PyTorchArray>,
  from: PyTorchSource,
): number | null {
  for (const [name, { shape }] of model.declared()) {
    if (!isStem(name)) continue;
    const given = arrays.get(pyTorchName(name, model.backbone, from) ?? "")?.shape[1];
    return given === undefined || given === shape[3] ? null : given;
  }
  return null;
}

function sourceOf(arrays: ReadonlyMap<string, unknown>): PyTorchSource {
  const has = (prefix: string) => [...arrays.keys()].some((name) => name.startsWith(prefix));
  if (has("backbone.")) return "vainf";
  return has("encoder.") ? "smp" : "torchvision";
}

/** DataParallel puts `module.` before every name, Lightning what its module calls the network. */
function withoutPrefix(tensors: ReadonlyMap<string, FileTensor>): ReadonlyMap<string, PyTorchArray> {
  const names = [...tensors.keys()];
  const prefix = ["module.", "model."].find((each) => names.every((name) => name.startsWith(each)));
  if (prefix === undefined || names.length === 0) return tensors;
  return new Map([...tensors].map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

/** The model of a file of ours as PyTorch would hold it. Averages are of what is trained: running statistics have none. */
function ownArrays({ tensors }: Safetensors, backbone: string): ReadonlyMap<string, PyTorchArray> {
  const arrays = new Map<string, PyTorchArray>();
  for (const [full, tensor] of tensors) {
    if (!full.startsWith("model.")) continue;
    const name = full.slice("model.".length);
    const averaged = tensors.get(`ema.${full}`) ?? tensor;
    arrays.set(pyTorchName(name, backbone, "smp") ?? name, channelsFirst(averaged));
  }
  return arrays;
}

/** `[cout, kh, kw, cin]` to `[cout, cin, kh, kw]`; other shapes as they are. */
function channelsFirst({ shape, data }: FileTensor): PyTorchArray {
  if (shape.length !== 4) return { shape, data };
  const [cout, kh, kw, cin] = shape as [number, number, number, number];
  const area = kh * kw;
  const turned = new Float32Array(data.length);
  for (let o = 0; o < cout; o++) {
    for (let p = 0; p < area; p++) {
      for (let c = 0; c < cin; c++) turned[(o * cin + c) * area + p] = data[(o * area + p) * cin + c]!;
    }
  }
  return { shape: [cout, cin, kh, kw], data: turned };
}
