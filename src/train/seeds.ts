import type { Domain } from "../data/dataset.js";
import type { ConfusionMatrix, Scores } from "../metrics.js";
import { percent } from "./scores.js";
import { type Spread, showSpread, spreadOf } from "./spread.js";

/** One way of evaluating the last checkpoint of every seed. */
export interface SeedsRow {
  readonly name: string;
  readonly source: DomainSpread | null;
  readonly target: DomainSpread | null;
}
export interface DomainSpread {
  readonly meanIoU: Spread;
  /** By class; null for a class that no seed has an IoU of. */
  readonly iou: Readonly<Record<string, Spread | null>>;
}

/** What seeds.json holds. */
export interface SeedsReport {
  readonly seeds: readonly number[];
  readonly classes: readonly string[];
  readonly rows: readonly SeedsRow[];
}

/** Scores of one row, seed by seed, on the val splits; null where the data set lacks one. */
export type SeedScores = Readonly<Record<Domain, ConfusionMatrix | null>>;

export function seedsRow(name: string, classes: readonly string[], seeds: readonly SeedScores[]): SeedsRow {
  const on = (domain: Domain): DomainSpread | null => {
    const scores = seeds.flatMap((seed): Scores[] => (seed[domain] ? [seed[domain].scores()] : []));
    const meanIoU = spreadOf(scores.map((s) => s.meanIoU));
    const iou = classes.map((c, i) => [c, spreadOf(scores.map((s) => s.perClass[i]!.iou))] as const);
    return meanIoU && { meanIoU, iou: Object.fromEntries(iou) };
  };
  return { name, source: on("source"), target: on("target") };
}

/** A table of all rows, in percent: `43.2 ± 1.3`. */
export function seedsMarkdown({ seeds, classes, rows }: SeedsReport): string {
  const shown = (spread: Spread | null | undefined) => showSpread(spread ?? null, percent, seeds.length);
  const head = [
    "",
    "target mIoU",
    ...classes.map((c) => `target ${c}`),
    "source mIoU",
    ...classes.map((c) => `source ${c}`),
  ];
  const cells = (part: DomainSpread | null) => [shown(part?.meanIoU), ...classes.map((c) => shown(part?.iou[c]))];
  const line = (row: readonly string[]) => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const deviation = seeds.length > 1 ? ", mean ± standard deviation (n − 1)" : "";
  return [
    `IoU on the val splits in percent, last checkpoint, ${seeds.length} seed${seeds.length > 1 ? "s" : ""} (${seeds.join(", ")})${deviation}.`,
    "",
    line(head),
    line(head.map((_, i) => (i === 0 ? "---" : "---:"))),
    ...rows.map((row) => line([row.name, ...cells(row.target), ...cells(row.source)])),
    "",
  ].join("\n");
}
