import type { Dataset, Domain } from "../data/dataset.js";
import type { DomainStatistics } from "../data/normalise.js";
import { displayed } from "../data/picture.js";
import type { Device } from "../device.js";
import type { ConfusionMatrix, Scores } from "../metrics.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { predict } from "./evaluate.js";
import { chartsOf } from "./history.js";
import { type Picture, type PictureGrid, paintLabels, renderReport, type Table } from "./report.js";
import { confusionTable, countsOf, percent, scoreLines } from "./scores.js";
import { evaluateDomains, type TrainResult } from "./train.js";

/** Tiles shown of each domain. */
const SHOWN = 4;

/** What report.json of a run holds. */
export interface RunReport {
  readonly device: string;
  /** Of training, evaluations during it included. */
  readonly seconds: number;
  readonly steps: number;
  readonly config: TrainResult["config"];
  readonly classes: readonly string[];
  /** On the val splits; null where the data set lacks one. */
  readonly source: (Scores & { readonly confusion: readonly (readonly number[])[] }) | null;
  readonly target: RunReport["source"];
}

/** Evaluates a finished run on both val splits, and writes it up: a page, the numbers, and lines for a terminal. */
export async function writeRunReport(
  result: TrainResult,
  dataset: Dataset,
  device: Device,
  signal?: AbortSignal,
): Promise<{ html: string; json: RunReport; summary: string[] }> {
  const { model, config, statistics, history } = result;
  const { classes } = dataset;
  const confusions = await evaluateDomains(model, dataset, statistics, signal);
  const found = (["source", "target"] as const).flatMap((domain) => {
    const confusion = confusions[domain];
    return confusion ? [{ domain, confusion }] : [];
  });
  const grids: PictureGrid[] = [];
  for (const { domain } of found) grids.push(await gridOf(model, dataset, domain, statistics));
  const html = renderReport({
    title: `lacuna: ${config.mode} training on ${dataset.name}`,
    summary: [`${result.step} steps in ${Math.round(history.seconds)} s on ${device.description}`],
    tables: found.map(({ domain, confusion }) => scoreTable(`${domain}/val`, classes, confusion)),
    grids,
    classes,
    charts: chartsOf(history),
    confusions: found.map(({ domain, confusion }) => confusionTable(`${domain}/val`, classes, confusion)),
    settings: config,
  });
  const scored = (confusion: ConfusionMatrix | null) =>
    confusion && { ...confusion.scores(), confusion: countsOf(confusion) };
  const json: RunReport = {
    device: device.description,
    seconds: history.seconds,
    steps: result.step,
    config,
    classes,
    source: scored(confusions.source),
    target: scored(confusions.target),
  };
  return {
    html,
    json,
    summary: found.flatMap(({ domain, confusion }) => scoreLines(`${domain}/val`, classes, confusion)),
  };
}

function scoreTable(title: string, classes: readonly string[], confusion: ConfusionMatrix): Table {
  const scores = confusion.scores();
  const { meanIoU, meanF1, meanPrecision, meanRecall } = scores;
  return {
    title: `${title}: overall accuracy ${percent(scores.overallAccuracy)} %, kappa ${scores.kappa.toFixed(3)}`,
    columns: ["", "IoU, %", "F1", "precision", "recall"],
    rows: [
      ["mean", ...[meanIoU, meanF1, meanPrecision, meanRecall].map(percent)],
      ...scores.perClass.map(({ iou, f1, precision, recall }, i) => [
        classes[i]!,
        ...[iou, f1, precision, recall].map(percent),
      ]),
    ],
  };
}

async function gridOf(
  model: DeepLabV3Plus,
  dataset: Dataset,
  domain: Domain,
  statistics: DomainStatistics,
): Promise<PictureGrid> {
  const tiles = dataset.split(domain, "val");
  const rows: { name: string; pictures: Picture[] }[] = [];
  for (const index of spread(tiles.length, SHOWN)) {
    const tile = await tiles.read(index);
    const [prediction] = await predict(model, [tile], statistics[domain]);
    const paint = (labels: ArrayLike<number>) => paintLabels(labels, tile.height, tile.width, dataset.classes.length);
    const image: Picture = { height: tile.height, width: tile.width, pixels: displayed(tile) };
    rows.push({ name: tile.name, pictures: [image, paint(tile.label ?? []), paint(prediction!)] });
  }
  return { title: `${domain}/val`, columns: ["image", "truth", "prediction"], rows };
}

/** At most `count` indices below `length`, evenly spread. */
export function spread(length: number, count: number): number[] {
  const shown = Math.min(length, count);
  return Array.from({ length: shown }, (_, i) => Math.floor(((i + 0.5) * length) / shown));
}
