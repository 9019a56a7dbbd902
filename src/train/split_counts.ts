import type { Dataset, Domain } from "../data/dataset.js";
import type { ChannelStatistics } from "../data/normalise.js";
import { BoundaryCounts, type BoundaryScores } from "../metrics/boundary.js";
import type { ConfusionMatrix, Scores } from "../metrics.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { type EvaluateOptions, evaluate } from "./evaluate.js";

/**
 * How a class such as clutter is left out. Papers do either, and their numbers differ by points:
 * - `all`: it is not.
 * - `excluded`: no mean includes it. Its pixels still count as errors where other classes are predicted there, and in
 *   overall accuracy and kappa (GeoSeg and most five-class tables on ISPRS).
 * - `ignored`: its labelled pixels count nowhere, as if they had no label (MMSegmentation with the class as ignore
 *   index). Kinder: whatever is predicted there is no error.
 */
export type Convention = "all" | "excluded" | "ignored";

/** What was counted on a val split. */
export interface SplitCounts {
  readonly domain: Domain;
  readonly tiles: number;
  readonly confusion: ConfusionMatrix;
  readonly boundary: BoundaryCounts;
  /** Boundaries with the labels of excluded classes ignored; null where none is excluded. */
  readonly boundaryIgnoring: BoundaryCounts | null;
}

export interface CountOptions extends Omit<EvaluateOptions, "statistics"> {
  readonly statistics: ChannelStatistics;
  /** Of boundaries, pixels; null: 0.75 % of each tile's diagonal. */
  readonly tolerance?: number | null;
  /** Indices of excluded classes. */
  readonly exclude?: readonly number[];
}

/**
 * Counts predictions and their boundaries on the val split of a domain.
 * @returns null where the data set has no such split.
 * @throws DataError where a tile has no labels or cannot be read.
 */
export async function countSplit(
  model: DeepLabV3Plus,
  dataset: Dataset,
  domain: Domain,
  { tolerance = null, exclude = [], onTile, ...options }: CountOptions,
): Promise<SplitCounts | null> {
  if (!dataset.has(domain, "val")) return null;
  const { ignoreIndex } = dataset;
  const classes = dataset.classes.length;
  const boundary = new BoundaryCounts(classes, { tolerance, ignoreIndex });
  const boundaryIgnoring = exclude.length > 0 ? new BoundaryCounts(classes, { tolerance, ignoreIndex }) : null;
  const tiles = dataset.split(domain, "val");
  const confusion = await evaluate(model, dataset, tiles, {
    ...options,
    onTile(tile, prediction) {
      const { label, height, width } = tile;
      boundary.add(prediction, label, height, width);
      if (boundaryIgnoring) {
        const left = label.map((c) => (exclude.includes(c) ? ignoreIndex : c));
        boundaryIgnoring.add(prediction, left, height, width);
      }
      onTile?.(tile, prediction);
    },
  });
  return { domain, tiles: tiles.length, confusion, boundary, boundaryIgnoring };
}

/** Scores under one convention. */
export interface ConventionScores {
  readonly convention: Convention;
  readonly scores: Scores;
  readonly boundary: BoundaryScores;
  readonly confusion: ConfusionMatrix;
}

/** Scores of a split with all classes and, where some are excluded, under both conventions without those. */
export function conventionsOf(counts: SplitCounts, exclude: readonly number[]): ConventionScores[] {
  const { confusion, boundary, boundaryIgnoring } = counts;
  const all = { convention: "all", scores: confusion.scores(), boundary: boundary.scores(), confusion } as const;
  if (!boundaryIgnoring) return [all];
  const ignored = confusion.ignoring(exclude);
  return [
    all,
    {
      convention: "excluded",
      scores: confusion.scores({ exclude }),
      boundary: boundary.scores({ exclude }),
      confusion,
    },
    {
      convention: "ignored",
      scores: ignored.scores({ exclude }),
      boundary: boundaryIgnoring.scores({ exclude }),
      confusion: ignored,
    },
  ];
}
