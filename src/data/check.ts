import { join } from "node:path";
import { DataError } from "../errors.js";
import { checkClasses, checkStatistics, classShares, classWeights, statisticsOf } from "./check/domains.js";
import { Duplicates } from "./check/duplicates.js";
import { examineImage, examineLabel } from "./check/examine.js";
import { type Finding, Findings } from "./check/finding.js";
import { checkTraining, type PlannedTraining } from "./check/model.js";
import { type FoundPair, findPairs, isFolder } from "./check/pairs.js";
import { count, kindOf, SplitSummary } from "./check/split.js";
import { checkClasses as checkNames, readDescription } from "./folder.js";

export type { Finding, Severity } from "./check/finding.js";
export type { PlannedTraining } from "./check/model.js";

export interface CheckOptions {
  /** Class names in index order; default: those of dataset.json. */
  readonly classes?: readonly string[];
  /** A training to hold the data against. */
  readonly training?: PlannedTraining;
  /** Called after every tile. */
  readonly onTile?: (done: number, total: number) => void;
}

/** What one split holds. Shares are of label pixels (`classes`: of those that count) or image pixels (`lost`). */
export interface SplitReport {
  readonly name: string;
  readonly tiles: number;
  /** Tiles by `height x width`. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Tiles by `3 bands of u8`. */
  readonly kinds: Readonly<Record<string, number>>;
  /** By band, in stored units; null where nothing was measured. */
  readonly mean: readonly number[] | null;
  readonly deviation: readonly number[] | null;
  /** Share without measurement: no-data, NaN, transparent. */
  readonly lost: number;
  /** Share of each class; null where the split's labels are not read or hold none. */
  readonly classes: readonly number[] | null;
  readonly ignored: number | null;
  /** Label pixels by value, values that occur. */
  readonly histogram: Readonly<Record<string, number>>;
}

export interface CheckReport {
  readonly root: string;
  readonly classes: readonly string[] | null;
  readonly ignore: number;
  readonly protocol: string | null;
  readonly splits: readonly SplitReport[];
  /** 1 / ln(1.02 + share) of each class in source/train; null where it has no labels. */
  readonly classWeights: readonly number[] | null;
  /** Errors first, then warnings, then notes. */
  readonly findings: readonly Finding[];
}

/**
 * Goes through every file of a folder of tiles (see `FolderDataset`) and says what would stop or spoil a training. A file
 * that cannot be read is a finding and the next one is looked at: one run finds everything. One strip of a tile is in
 * memory at a time. `target/train/labels` is not read.
 * @throws nothing about the data: a folder that is none is a finding too.
 */
export async function checkDataset(root: string, options: CheckOptions = {}): Promise<CheckReport> {
  const findings = new Findings();
  const { classes, ignore, protocol } = await describe(root, options, findings);
  const pairs = await listSplits(root, findings);
  const total = [...pairs.values()].reduce((sum, list) => sum + list.length, 0);
  const duplicates = new Duplicates();
  const kinds = new Map<string, { count: number; file: string }>();
  const splits = new Map<string, SplitSummary>();
  let done = 0;
  for (const [name, list] of pairs) {
    const split = new SplitSummary(name, name !== "target/train");
    splits.set(name, split);
    for (const pair of list) {
      const before = findings.list.length;
      const facts = await attempt(() => examineImage(pair.image), findings);
      if (facts) {
        const seen = kinds.get(kindOf(facts));
        if (seen) seen.count++;
        else kinds.set(kindOf(facts), { count: 1, file: pair.image });
        split.addImage(pair.image, facts, findings);
        const shows = !findings.list
          .slice(before)
          .some(({ code }) => code === "near-constant" || code === "no-data-only");
        if (shows) duplicates.add(facts.hash, name, pair.image);
      }
      const label = pair.label;
      const labelFacts = label === null ? null : await attempt(() => examineLabel(label), findings);
      if (label !== null && labelFacts) {
        split.addLabel(label, labelFacts, classes, ignore, findings);
        const [is, wanted] = [sizeOf(labelFacts.info), facts ? sizeOf(facts.info) : null];
        if (wanted !== null && is !== wanted) {
          findings.error("size-mismatch", label, `is ${is} pixels high and wide, its image ${wanted}`);
        }
      }
      options.onTile?.(++done, total);
    }
  }
  reportMixtures(kinds, splits, findings);
  duplicates.report(findings);
  checkStatistics(splits, findings);
  if (classes) checkClasses(splits, classes, ignore, findings);
  if (options.training) checkTraining(options.training, splits, findings);
  const train = splits.get("source/train");
  const shares = classes && train ? classShares(train, classes.length) : null;
  const order = ["error", "warning", "note"];
  return {
    root,
    classes,
    ignore,
    protocol,
    splits: [...splits.values()].map((split) => reportOf(split, classes?.length ?? null, ignore)),
    classWeights: shares ? classWeights(shares) : null,
    findings: findings.list.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity)), // a stable sort
  };
}

async function attempt<T>(work: () => Promise<T>, findings: Findings): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    findings.error("unreadable", error.file, error.reason);
    return null;
  }
}

async function describe(root: string, options: CheckOptions, findings: Findings) {
  const file = join(root, "dataset.json");
  let described: Awaited<ReturnType<typeof readDescription>> = {};
  try {
    described = await readDescription(file);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    findings.error("description", file, error.reason);
  }
  const classes = options.classes ?? described.classes ?? null;
  const ignore = described.ignore ?? 255;
  if (classes) {
    try {
      checkNames(file, classes, ignore);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      findings.error("description", file, error.reason);
    }
  } else {
    const way = 'write {"classes": ["background", "road"], "ignore": 255} or use --classes';
    findings.error("no-classes", file, `names no classes, so values cannot be checked: ${way}`);
  }
  return {
    classes,
    ignore: Number.isInteger(ignore) && ignore >= 0 && ignore <= 255 ? ignore : 255,
    protocol: described.protocol ?? null,
  };
}

async function listSplits(root: string, findings: Findings): Promise<Map<string, FoundPair[]>> {
  const splits = new Map<string, FoundPair[]>();
  if (!(await isFolder(root))) {
    findings.error("no-folder", root, "no such folder");
    return splits;
  }
  for (const domain of ["source", "target"] as const) {
    for (const split of ["train", "val"] as const) {
      const name = `${domain}/${split}`;
      const folder = join(root, domain, split);
      if (!(await isFolder(folder))) continue;
      const adapted = name === "target/train";
      splits.set(name, await findPairs(folder, !adapted, findings));
      if (adapted && (await isFolder(join(folder, "labels")))) {
        findings.note("target-labels", join(folder, "labels"), "is never read: adaptation must not see these labels");
      }
    }
  }
  if (splits.size === 0) {
    const wanted = "source/train, source/val, target/train, target/val";
    findings.error("no-split", root, `holds none of ${wanted}; lacuna data prepare makes that layout`);
  }
  return splits;
}

/** A set of several kinds of images cannot be trained on; several sizes can. */
function reportMixtures(
  kinds: ReadonlyMap<string, { count: number; file: string }>,
  splits: ReadonlyMap<string, SplitSummary>,
  findings: Findings,
): void {
  const sorted = [...kinds].sort(([, a], [, b]) => b.count - a.count);
  for (const [kind, { count: tiles, file }] of sorted.slice(1)) {
    const [usual, { count: most }] = sorted[0]!;
    findings.error(
      "mixed-kinds",
      file,
      `${tiles} images have ${kind}, the other ${most} have ${usual}; the first of them is this one`,
    );
  }
  const sizes = new Map<string, number>();
  for (const split of splits.values())
    for (const [size, tiles] of split.sizes) for (let i = 0; i < tiles; i++) count(sizes, size);
  if (sizes.size > 1) {
    const text = [...sizes]
      .sort(([, a], [, b]) => b - a)
      .slice(0, 6)
      .map(([size, tiles]) => `${tiles} of ${size}`);
    findings.note(
      "mixed-sizes",
      null,
      `tiles come in ${sizes.size} sizes: ${text.join(", ")}${sizes.size > 6 ? " …" : ""}`,
    );
  }
}

function reportOf(split: SplitSummary, classes: number | null, ignore: number): SplitReport {
  const statistics = statisticsOf(split);
  const used = [...split.histogram.entries()].filter(([, pixels]) => pixels > 0);
  return {
    name: split.name,
    tiles: split.tiles,
    sizes: Object.fromEntries(split.sizes),
    kinds: Object.fromEntries(split.kinds),
    mean: statistics?.mean ?? null,
    deviation: statistics?.deviation ?? null,
    lost: split.pixels === 0 ? 0 : split.lost / split.pixels,
    classes: classes === null ? null : classShares(split, classes),
    ignored: split.labelled === 0 ? null : split.histogram[ignore]! / split.labelled,
    histogram: Object.fromEntries(used.map(([value, pixels]) => [String(value), pixels])),
  };
}

const sizeOf = ({ height, width }: { readonly height: number; readonly width: number }): string =>
  `${height} x ${width}`;
