import { readFile, stat } from "node:fs/promises";
import * as v from "valibot";
import { parse } from "yaml";
import { ConfigError } from "../errors.js";
import type { PartialConfig } from "../train/config.js";
import { UsageError } from "./command.js";

const MAX_BYTES = 2 ** 20;

const number = v.pipe(v.number(), v.finite());
const text = v.string();
const optional = <const E extends v.ObjectEntries>(entries: E) => v.optional(v.partial(v.strictObject(entries)));

/** Which entries a configuration may have, and of what type. What values they may take is checked by `resolveConfig`. */
const schema = v.partial(
  v.strictObject({
    mode: text,
    seed: number,
    steps: number,
    crop: number,
    batch: optional({ source: number, target: number }),
    jointBatch: v.boolean(),
    normalise: text,
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
    }),
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
      fixed: optional({ crossEntropy: number, tversky: number, domain: number }),
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
    evaluateEvery: number,
    checkpointEvery: number,
  }),
);

/** @throws ConfigError naming the first entry that is unknown or of the wrong type. */
export function checkConfig(value: unknown): PartialConfig {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output as PartialConfig; // names of choices are checked by resolveConfig
  const [issue] = result.issues;
  const path = v.getDotPath(issue) ?? "";
  const unknown = issue.expected === "never";
  throw new ConfigError(path, unknown ? "there is no such entry" : `must be ${issue.expected}, not ${issue.received}`);
}

/**
 * Reads a configuration in YAML or JSON (which is YAML).
 * @throws UsageError where the file cannot be read or parsed; ConfigError as `checkConfig`.
 */
export async function readConfigFile(file: string): Promise<PartialConfig> {
  let content: string;
  try {
    const found = await stat(file);
    if (!found.isFile() || found.size > MAX_BYTES) throw new Error("not a regular file of at most 1 MiB");
    content = await readFile(file, "utf8");
  } catch (cause) {
    throw new UsageError(`--config ${file}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  return checkConfig(parseText(content, `--config ${file}`) ?? {});
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
  const isGroup = (x: unknown): x is Record<string, unknown> =>
    typeof x === "object" && x !== null && !Array.isArray(x);
  const merge = (a: unknown, b: unknown): unknown => {
    if (!isGroup(a) || !isGroup(b)) return b === undefined ? a : b;
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return Object.fromEntries(keys.map((key) => [key, merge(a[key], b[key])]));
  };
  return merge(under, over) as PartialConfig; // both are, and merging adds no entries
}

function parseText(content: string, what: string): unknown {
  try {
    return parse(content, { maxAliasCount: 100 });
  } catch (cause) {
    const line = cause instanceof Error ? cause.message.split("\n")[0]! : String(cause);
    throw new UsageError(`${what}: ${line}`);
  }
}
