import { readFile, stat } from "node:fs/promises";
import * as v from "valibot";
import { parse, stringify } from "yaml";
import { ConfigError } from "../errors.js";
import type { PartialConfig, TrainConfig } from "../train/config.js";
import { UsageError } from "./command.js";
import { likelyEntry } from "./likely_entry.js";

const MAX_BYTES = 2 ** 20;

const number = v.pipe(v.number(), v.finite());
const text = v.string();
const optional = <const E extends v.ObjectEntries>(entries: E) => v.optional(v.partial(v.strictObject(entries)));

/** Which entries a configuration may have, and of what type. What values they may take is checked by `resolveConfig`. */
const entries = {
  mode: text,
  seed: number,
  steps: number,
  crop: number,
  batch: optional({ source: number, target: number }),
  jointBatch: v.boolean(),
  normalise: text,
  sampling: text,
  augment: optional({
    flip: v.boolean(),
    rotate90: v.boolean(),
    scale: v.tuple([number, number]),
    brightness: number,
    contrast: number,
    saturation: number,
  }),
  model: optional({
    backbone: text,
    variant: text,
    outputStride: number,
    width: number,
    imagePooling: text,
    precision: text,
    pretrained: v.nullable(text),
  }),
  selfTraining: optional({ decay: number, threshold: number, warmUp: number }),
  discriminator: optional({
    kind: text,
    tap: text,
    lambda: number,
    gamma: number,
    lrFactor: number,
    width: number,
    strides: v.array(number),
    kernel: number,
  }),
  losses: optional({
    weighting: text,
    learned: v.array(text),
    fixed: optional({ crossEntropy: number, tversky: number, domain: number, selfTraining: number }),
    lrFactor: number,
    crossEntropy: optional({ classWeights: v.nullable(v.array(number)), labelSmoothing: number }),
    tversky: optional({ alpha: number, beta: number, gamma: number }),
  }),
  optim: optional({
    kind: text,
    lr: number,
    weightDecay: number,
    momentum: number,
    headFactor: number,
    clipNorm: v.nullable(number),
  }),
  schedule: optional({ kind: text, warmUp: number }),
  ema: v.nullable(number),
  adaBN: v.boolean(),
  evaluateEvery: number,
  select: text,
  checkpointEvery: number,
};

/** What a file may say beside the configuration: what the options of the same names say. */
const surroundings = {
  data: text,
  out: text,
  classes: v.array(text),
  device: text,
  seeds: v.array(number),
};
/** The folder of tiles and that of the run, as typed: relative to the current folder; and more that is no entry. */
export type Surroundings = { -readonly [K in keyof typeof surroundings]?: v.InferOutput<(typeof surroundings)[K]> };

const ofEntries = v.partial(v.strictObject(entries));
const ofFiles = v.partial(v.strictObject({ ...surroundings, ...entries }));

/** @throws ConfigError naming the first entry that is unknown, and which one may be meant, or of the wrong type. */
export function checkConfig(value: unknown): PartialConfig {
  return check(ofEntries, value) as PartialConfig; // names of choices are checked by resolveConfig
}

function check<S extends typeof ofEntries | typeof ofFiles>(schema: S, value: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue) ?? "";
  if (issue.expected !== "never") throw new ConfigError(path, `must be ${issue.expected}, not ${issue.received}`);
  const inside = leafOf(path, issue.path?.at(-1)?.value);
  const likely = likelyEntry(inside, pathsOf(schema));
  const hint = likely === null ? "" : `; did you mean ${likely}?`;
  throw new ConfigError(likely === null ? path : inside, `there is no such entry${hint}`);
}

/** `optimizer.lr`, where a file says `optimizer: { lr: 0.1 }` and there is no `optimizer`. */
function leafOf(path: string, value: unknown): string {
  const [first] = isGroup(value) ? Object.entries(value) : [];
  return first ? leafOf(`${path}.${first[0]}`, first[1]) : path;
}

/** Every entry and group of a schema, dotted. */
function pathsOf(schema: { readonly entries: object }, under = ""): string[] {
  return Object.entries(schema.entries).flatMap(([key, part]) => {
    const path = under + key;
    let inner: unknown = part;
    while (isGroup(inner) && "wrapped" in inner) inner = inner.wrapped; // optional
    return isGroup(inner) && isGroup(inner.entries)
      ? [path, ...pathsOf({ entries: inner.entries }, `${path}.`)]
      : [path];
  });
}

/**
 * Reads a configuration in YAML or JSON (which is YAML).
 * @throws UsageError where the file cannot be read or parsed; ConfigError as `checkConfig`.
 */
export async function readConfigFile(file: string): Promise<{ config: PartialConfig; surroundings: Surroundings }> {
  let content: string;
  try {
    const found = await stat(file);
    if (!found.isFile() || found.size > MAX_BYTES) throw new Error("not a regular file of at most 1 MiB");
    content = await readFile(file, "utf8");
  } catch (cause) {
    throw new UsageError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  const all = check(ofFiles, parseText(content, file) ?? {});
  const isAround = (key: string): boolean => key in surroundings;
  const pick = (wanted: (key: string) => boolean) => Object.fromEntries(Object.entries(all).filter(([k]) => wanted(k)));
  return {
    config: pick((key) => !isAround(key)) as PartialConfig, // names of choices are checked by resolveConfig
    surroundings: pick(isAround),
  };
}

/** A configuration with every entry and its surroundings, as a file that `readConfigFile` reads; `remarks` are comments. */
export function writeConfigFile(config: TrainConfig, around: Surroundings, remarks: readonly string[]): string {
  const comment = remarks.flatMap((remark) => remark.split("\n")).map((line) => `# ${line}\n`);
  return `${comment.join("")}${stringify({ ...around, ...config }, { flowCollectionPadding: false, lineWidth: 100 })}`;
}

/**
 * Adds `optim.lr=0.01` to a configuration; the value is YAML, so lists and null work too.
 * @throws UsageError where it has no `=` or no such path is possible.
 */
export function applySetting(config: PartialConfig, setting: string): PartialConfig {
  const at = setting.indexOf("=");
  const path = setting.slice(0, Math.max(0, at)).split(".");
  if (at < 1 || path.some((key) => !/^[a-zA-Z0-9]+$/.test(key))) {
    throw new UsageError(`--set takes key=value, such as optim.lr=0.01, not "${setting}"`);
  }
  const value = parseText(setting.slice(at + 1), `--set ${setting}`);
  const nested = path.reduceRight<unknown>((inner, key) => Object.fromEntries([[key, inner]]), value);
  return mergeConfig(config, checkConfig(nested));
}

/** Entries of `over` replace those of `under`; groups are merged. */
export function mergeConfig(under: PartialConfig, over: PartialConfig): PartialConfig {
  const merge = (a: unknown, b: unknown): unknown => {
    if (!isGroup(a) || !isGroup(b)) return b === undefined ? a : b;
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return Object.fromEntries(keys.map((key) => [key, merge(a[key], b[key])]));
  };
  return merge(under, over) as PartialConfig; // both are, and merging adds no entries
}

const isGroup = (x: unknown): x is Record<string, unknown> => typeof x === "object" && x !== null && !Array.isArray(x);

function parseText(content: string, what: string): unknown {
  try {
    return parse(content, { maxAliasCount: 100 });
  } catch (cause) {
    const line = cause instanceof Error ? cause.message.split("\n")[0]! : String(cause);
    throw new UsageError(`${what}: ${line}`);
  }
}
