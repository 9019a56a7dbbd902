import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { writeAtomic } from "../checkpoint/index.js";
import { FolderDataset } from "../data/folder.js";
import { type Device, open } from "../device.js";
import { CheckpointError, DataError } from "../errors.js";
import { loadTrained } from "../train/checkpoint.js";
import { type Protocol, type ScoredRun, scoreJSON, scoreTables, tidyTable } from "../train/score_report.js";
import { countsOf } from "../train/scores.js";
import { countSplit, type SplitCounts } from "../train/split_counts.js";
import { csvTable, latexTable, markdownTable, type Table, textTable } from "../train/tables.js";
import { type ViewOptions, viewsOf } from "../train/tta.js";
import { type Command, parseOptions, required, UsageError } from "./command.js";
import { deviceName } from "./device_option.js";
import { Interrupt } from "./interrupt.js";
import { type CheckpointName, checkpointFiles, runFolders } from "./run_folders.js";

const FORMATS = ["text", "md", "csv", "latex", "json"] as const;
type Format = (typeof FORMATS)[number];

export const evaluateCommand: Command = {
  name: "eval",
  summary: "score trained models on the val splits of a folder",
  help: `Usage: lacuna eval --run DIR [--run DIR …] --data DIR [options]

Counts one confusion matrix over each of source/val and target/val and gives IoU, F1, precision, recall, boundary F1 by
class and in the mean, overall accuracy and kappa. Several runs, of several seeds say, give mean and standard deviation.

  --run DIR             output folder of lacuna train, or one that holds folders seed-0, seed-1, …; may be repeated
  --data DIR            tiles as for lacuna train; source/val and target/val, or one of them
  --checkpoint NAME     last (default) or best
  --exclude CLASS       also scores without this class, such as clutter, in both ways in use: left out of the means
                        alone, and its labelled pixels ignored; may be repeated
  --tta LIST            averages probabilities over flip (left to right), rot90 (quarter turns), or both: flip,rot90
  --scales LIST         and over scaled images: 0.75,1,1.25
  --boundary PIXELS     within which boundaries match (default: 0.75 % of each tile's diagonal, Csurka et al. 2013)
  --format FORMAT       ${FORMATS.join(", ")} (default text); csv and json hold every score in full precision
  --out DIR             writes eval.md, eval.csv, eval.tex and eval.json there
  --device NAME         cuda, webgpu, cpu or reference (default: the first that opens)
  --json                scores and confusion matrices of one run as one JSON object`,
  async run(args, terminal) {
    const options = parseOptions("eval", args, {
      run: { type: "string", multiple: true, default: [] },
      data: { type: "string" },
      checkpoint: { type: "string", default: "last" },
      exclude: { type: "string", multiple: true, default: [] },
      tta: { type: "string", default: "" },
      scales: { type: "string", default: "1" },
      boundary: { type: "string" },
      format: { type: "string" },
      out: { type: "string" },
      device: { type: "string" },
      json: { type: "boolean", default: false },
    });
    required("eval", "run", options.run[0]);
    const root = required("eval", "data", options.data);
    const settings: Settings = {
      checkpoint: oneOf("checkpoint", options.checkpoint, ["last", "best"]),
      exclude: options.exclude,
      views: viewOptions(options.tta, options.scales),
      tolerance: options.boundary === undefined ? null : distance(options.boundary),
    };
    if (options.json && options.format !== undefined) throw new UsageError("--json and --format exclude each other");
    const format = options.format === undefined ? "text" : oneOf("format", options.format, FORMATS);
    const folders = (await Promise.all(options.run.map(runFolders))).flat();
    if (new Set(folders).size !== folders.length) throw new UsageError("--run names a run twice");
    if (options.json && folders.length > 1) throw new UsageError("--json is of one run; --format json takes several");
    using device = await open(deviceName(options.device));
    using interrupt = new Interrupt((signal) => terminal.stderr.write(`${signal}: stopping after this batch\n`));
    let scored: Scored;
    try {
      scored = await scoreRuns(folders, root, device, settings, interrupt.signal);
    } catch (error) {
      if (interrupt.code !== null) return interrupt.code;
      throw error;
    }
    const text = options.json ? ofOneRun(scored.runs[0]!.splits) : write(scored, format);
    terminal.stdout.write(text);
    if (options.out !== undefined) {
      await mkdir(options.out, { recursive: true });
      for (const [name, as] of FILES) await writeAtomic(join(options.out, name), write(scored, as));
      if (!options.json && format === "text") terminal.stdout.write(`tables: ${join(options.out, "eval.*")}\n`);
    }
    return interrupt.code ?? 0;
  },
};

const FILES = [
  ["eval.md", "md"],
  ["eval.csv", "csv"],
  ["eval.tex", "latex"],
  ["eval.json", "json"],
] as const;

/** What the options ask for, whatever runs and data there are. */
interface Settings {
  readonly checkpoint: CheckpointName;
  /** Names of classes. */
  readonly exclude: readonly string[];
  readonly views: ViewOptions;
  readonly tolerance: number | null;
}
interface Scored {
  readonly runs: readonly ScoredRun[];
  readonly protocol: Protocol;
}

/** Evaluates run after run; no more than one model is on the device. */
async function scoreRuns(
  folders: readonly string[],
  root: string,
  device: Device,
  settings: Settings,
  signal: AbortSignal,
): Promise<Scored> {
  const views = viewsOf(settings.views);
  const runs: ScoredRun[] = [];
  let protocol: Protocol | null = null;
  for (const folder of folders) {
    const file = join(folder, checkpointFiles[settings.checkpoint]);
    using trained = await loadTrained(file, device);
    const { classes, ignoreIndex, statistics, config, step } = trained.run;
    const dataset = await FolderDataset.open(root, { classes, ignoreIndex });
    protocol ??= protocolOf(dataset, settings, views.length);
    if (protocol.classes.join("\n") !== classes.join("\n")) {
      const [first, own] = [protocol.classes.join(", "), classes.join(", ")];
      throw new CheckpointError(file, `is a run on the classes ${own}, not ${first} as the first`);
    }
    const splits: SplitCounts[] = [];
    for (const domain of ["source", "target"] as const) {
      const counts = await countSplit(trained.model, dataset, domain, {
        statistics: statistics[domain],
        tolerance: protocol.tolerance,
        exclude: protocol.exclude,
        signal,
        // One view that is the image itself needs no probabilities.
        ...(protocol.augmentation.length > 0 && { views }),
      });
      if (counts) splits.push(counts);
    }
    if (splits.length === 0) throw new DataError(root, "holds neither source/val nor target/val");
    runs.push({ name: folder, mode: config.mode, seed: config.seed, step, splits });
  }
  return { runs, protocol: protocol! };
}

function protocolOf(dataset: FolderDataset, settings: Settings, views: number): Protocol {
  const { flip, rot90, scales = [] } = settings.views;
  const exclude = settings.exclude.map((name) => {
    const index = dataset.classes.indexOf(name);
    if (index < 0)
      throw new UsageError(`--exclude names no class: there are ${dataset.classes.join(", ")}, not "${name}"`);
    return index;
  });
  if (new Set(exclude).size !== exclude.length) throw new UsageError("--exclude names a class twice");
  if (exclude.length >= dataset.classes.length) throw new UsageError("--exclude leaves no class");
  return {
    dataset: basename(dataset.name),
    tag: dataset.protocol,
    classes: dataset.classes,
    checkpoint: settings.checkpoint,
    augmentation: [
      ...(flip ? ["flip"] : []),
      ...(rot90 ? ["rot90"] : []),
      ...(scales.join() === "1" ? [] : [`scales ${scales.join(" ")}`]),
    ],
    views,
    tolerance: settings.tolerance,
    exclude,
  };
}

function write({ runs, protocol }: Scored, format: Format): string {
  const tables = scoreTables(runs, protocol);
  // Tables of one split stand below each other and share their notes.
  const once = tables.map(
    (table, i): Table => (table.notes === tables[i - 1]?.notes ? { ...table, notes: [] } : table),
  );
  switch (format) {
    case "text":
      return `${once.map(textTable).join("\n")}`;
    case "md":
      return once.map(markdownTable).join("\n");
    case "latex":
      return `% \\usepackage{booktabs}\n${tables.map(latexTable).join("\n")}`;
    case "csv":
      return csvTable(tidyTable(runs, protocol));
    case "json":
      return `${JSON.stringify(scoreJSON(runs, protocol), null, 2)}\n`;
  }
}

/** The object of `--json`. */
function ofOneRun(splits: readonly SplitCounts[]): string {
  const entries = splits.map(({ domain, confusion }) => [
    domain,
    { ...confusion.scores(), confusion: countsOf(confusion) },
  ]);
  return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`;
}

function oneOf<const T extends string>(option: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((name) => name === text);
  if (found === undefined) throw new UsageError(`--${option} must be one of ${allowed.join(", ")}, not "${text}"`);
  return found;
}

function viewOptions(tta: string, scales: string): ViewOptions {
  const names = tta === "" ? [] : tta.split(",");
  const wrong = names.find((name) => name !== "flip" && name !== "rot90");
  if (wrong !== undefined) throw new UsageError(`--tta lists flip, rot90 or both, not "${wrong}"`);
  const factors = scales.split(",").map((text) => (text.trim() === "" ? Number.NaN : Number(text)));
  if (!factors.every((s) => s >= 0.25 && s <= 4) || new Set(factors).size !== factors.length) {
    throw new UsageError(`--scales must list different numbers from 0.25 to 4, such as 0.75,1,1.25, not "${scales}"`);
  }
  return { flip: names.includes("flip"), rot90: names.includes("rot90"), scales: factors };
}

function distance(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= 0 && value <= 1e6)) throw new UsageError(`--boundary must be a number of pixels, not "${text}"`);
  return value;
}
