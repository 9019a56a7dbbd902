import type { Dataset, Domain } from "../data/dataset.js";
import { displayed } from "../data/picture.js";
import type { Device } from "../device.js";
import type { BoundaryScores } from "../metrics/boundary.js";
import { ConfusionMatrix, type Scores } from "../metrics.js";
import { type LabelledTile, predict } from "./evaluate.js";
import { chartsOf } from "./history.js";
import type { BarChart } from "./report/bars.js";
import { differenceKey, type Picture, type PictureGrid, paintDifference, paintLabels } from "./report/pictures.js";
import { renderReport } from "./report.js";
import { representatives } from "./representatives.js";
import { confusionTable, countsOf, percent, scoreLines } from "./scores.js";
import { countSplit, type SplitCounts } from "./split_counts.js";
import type { Table } from "./tables.js";
import type { TrainResult } from "./train.js";

/** Tiles shown of the worst, the median and the best of each domain. */
const SHOWN = 2;

/** Where a run was computed; texts for people. */
export interface Environment {
  /** Version of the package. */
  readonly lacuna: string;
  /** Git commit of the code; null where unknown. */
  readonly commit: string | null;
  readonly node: string;
  readonly system: string;
  readonly processor: string;
  readonly memory: string;
}

export interface RunReportOptions {
  readonly signal?: AbortSignal;
  /** The command line of the training; null where nobody knows. */
  readonly command?: string | null;
  /** Of the training; null where nobody knows. */
  readonly environment?: Environment | null;
  /** What it was trained on, where that is not the device of the evaluation. */
  readonly trainedOn?: string;
}

/** Scores of one val split. */
export interface SplitReport extends Scores {
  readonly boundary: BoundaryScores;
  /** Rows: labels, columns: predictions; pixels. */
  readonly confusion: readonly (readonly number[])[];
}

/** What report.json of a run holds. */
export interface RunReport {
  /** Of the training. */
  readonly device: string;
  /** Of training, evaluations during it included. */
  readonly seconds: number;
  readonly steps: number;
  readonly command: string | null;
  readonly environment: Environment | null;
  /** The data set's protocol tag. */
  readonly protocol: string | null;
  readonly config: TrainResult["config"];
  readonly classes: readonly string[];
  /** On the val splits; null where the data set lacks one. */
  readonly source: SplitReport | null;
  readonly target: SplitReport | null;
}

/** What of a run a report is about. */
export type ReportedRun = Pick<TrainResult, "config" | "model" | "statistics" | "step" | "history">;

/** Evaluates a run on both val splits, and writes it up: a page, the numbers, and lines for a terminal. */
export async function writeRunReport(
  run: ReportedRun,
  dataset: Dataset,
  device: Device,
  { signal, command = null, environment = null, trainedOn = device.description }: RunReportOptions = {},
): Promise<{ html: string; json: RunReport; summary: string[] }> {
  const { config, history, step } = run;
  const { classes, protocol = null } = dataset;
  const found: (SplitCounts & { readonly grid: PictureGrid })[] = [];
  for (const domain of ["source", "target"] as const) {
    const scores: (number | null)[] = [];
    const counts = await countSplit(run.model, dataset, domain, {
      statistics: run.statistics[domain],
      ...(signal && { signal }),
      onTile: (tile, prediction) => scores.push(tileScore(dataset, tile, prediction)),
    });
    if (counts) found.push({ ...counts, grid: await gridOf(run, dataset, domain, scores) });
  }
  const done = step < config.steps ? `${step} of ${config.steps} steps` : `${step} steps`;
  const html = renderReport({
    title: `lacuna: ${config.mode} training on ${dataset.name}`,
    summary: [
      `${done} in ${Math.round(history.seconds)} s on ${trainedOn}; seed ${config.seed}`,
      `Protocol: ${protocol ?? "not stated"}. Scores of the last checkpoint, counted over each whole val split.`,
    ],
    tables: found.map((counts) => scoreTable(counts, classes)),
    bars: found.length > 0 ? [barsOf(found, classes)] : [],
    grids: found.map(({ grid }) => grid),
    classes,
    charts: chartsOf(history),
    confusions: found.map(({ domain, confusion }) => confusionTable(`${domain}/val`, classes, confusion)),
    facts: factsOf(command, environment, trainedOn, protocol),
    settings: config,
  });
  const on = (domain: Domain): SplitReport | null => {
    const counts = found.find((split) => split.domain === domain);
    if (!counts) return null;
    const { confusion, boundary } = counts;
    return { ...confusion.scores(), boundary: boundary.scores(), confusion: countsOf(confusion) };
  };
  return {
    html,
    json: {
      device: trainedOn,
      seconds: history.seconds,
      steps: step,
      command,
      environment,
      protocol,
      config,
      classes,
      source: on("source"),
      target: on("target"),
    },
    summary: found.flatMap(({ domain, confusion }) => scoreLines(`${domain}/val`, classes, confusion)),
  };
}

function scoreTable({ domain, tiles, confusion, boundary }: SplitCounts, classes: readonly string[]): Table {
  const scores = confusion.scores();
  const outlines = boundary.scores();
  const { meanIoU, meanF1, meanPrecision, meanRecall, pixels } = scores;
  const count = (n: number) => n.toLocaleString("en");
  return {
    title: `${domain}/val: overall accuracy ${percent(scores.overallAccuracy)} %, kappa ${scores.kappa.toFixed(3)}`,
    notes: [
      `${count(tiles)} tiles, ${count(pixels)} labelled pixels; boundary F1 within 0.75 % of a tile's diagonal; percent.`,
    ],
    columns: ["", "IoU", "F1", "precision", "recall", "boundary F1", "pixels"],
    rows: [
      ["mean", ...[meanIoU, meanF1, meanPrecision, meanRecall, outlines.meanF1].map(percent), count(pixels)],
      ...scores.perClass.map(({ iou, f1, precision, recall, pixels: own }, c) => [
        classes[c]!,
        ...[iou, f1, precision, recall, outlines.perClass[c]!.f1].map(percent),
        count(own),
      ]),
    ],
  };
}

const barsOf = (found: readonly SplitCounts[], classes: readonly string[]): BarChart => ({
  title: "IoU by class, percent",
  groups: classes,
  series: found.map(({ domain, confusion }) => ({
    name: `${domain}/val`,
    values: confusion.scores().perClass.map(({ iou }) => iou),
  })),
});

function factsOf(
  command: string | null,
  environment: Environment | null,
  device: string,
  protocol: string | null,
): [string, string][] {
  const of = (value: string | null | undefined) => value ?? "not recorded";
  return [
    ["command", of(command)],
    ["protocol", protocol ?? "not stated"],
    ["device", device],
    ["lacuna", of(environment?.lacuna)],
    ["commit", of(environment?.commit)],
    ["Node.js", of(environment?.node)],
    ["system", of(environment?.system)],
    ["processor", of(environment?.processor)],
    ["memory", of(environment?.memory)],
  ];
}

/**
 * What tiles are ranked by: of two classes the IoU of the second, which is what is looked for; of more the mean IoU.
 * @returns null where the tile says nothing: all ignored, or of two classes the second neither labelled nor predicted.
 */
function tileScore({ classes, ignoreIndex }: Dataset, tile: LabelledTile, prediction: Uint8Array): number | null {
  const confusion = new ConfusionMatrix(classes.length, { ignoreIndex });
  confusion.add(prediction, tile.label);
  const { perClass, meanIoU, pixels } = confusion.scores();
  if (pixels === 0) return null;
  return classes.length === 2 ? perClass[1]!.iou : meanIoU;
}

/** The worst, the median and the best tiles of a val split. */
async function gridOf(
  { model, statistics }: ReportedRun,
  dataset: Dataset,
  domain: Domain,
  scores: readonly (number | null)[],
): Promise<PictureGrid> {
  const tiles = dataset.split(domain, "val");
  const classes = dataset.classes.length;
  const rows: { name: string; pictures: Picture[] }[] = [];
  for (const { rank, index } of representatives(scores, SHOWN)) {
    const tile = await tiles.read(index);
    const { height, width, label, name } = tile;
    const [prediction] = await predict(model, [tile], statistics[domain]);
    const paint = (labels: ArrayLike<number>) => paintLabels(labels, height, width, classes);
    const image: Picture = { height, width, pixels: displayed(tile) };
    const difference = paintDifference(label ?? [], prediction!, height, width, classes);
    rows.push({
      name: `${rank}: ${name}, IoU ${percent(scores[index]!)}`,
      pictures: [image, paint(label ?? []), paint(prediction!), difference],
    });
  }
  const ranked = classes === 2 ? `IoU of ${dataset.classes[1]}` : "mean IoU";
  return {
    title: `${domain}/val: the worst, median and best tiles by ${ranked}`,
    key: differenceKey(classes),
    columns: ["image", "truth", "prediction", "difference"],
    rows,
  };
}
