import { DataError } from "../errors.js";
import type { Generator } from "../random.js";
import type { TileSource } from "./dataset.js";

export const samplings = ["uniform", "balanced", "rare"] as const;
/**
 * Which crops of the source are trained on.
 * - `uniform`: every tile once an epoch, crops from anywhere.
 * - `balanced`: a class, each as likely as the others; a tile that has it; a crop that shows one of its pixels.
 * - `rare`: the same, but classes in proportion to exp((1 − share) / 0.1): rare-class sampling of DAFormer (Hoyer et al.,
 *   CVPR 2022, equation 5), whose T = 0.01 is for a set of nineteen classes and gives all to one of a few.
 */
export type Sampling = (typeof samplings)[number];

const TEMPERATURE = 0.1;
/** Fewer pixels of a class in a tile are as likely a mistake. */
const LEAST_PIXELS = 16;

/** Where one crop comes from. */
export interface Choice {
  readonly tile: number;
  /** Class that the crop must show; null: any place will do. */
  readonly shows: number | null;
}

/** Chooses tiles by the classes that they hold. What it is made of is plain data, so that threads can be given it. */
export interface ClassTable {
  /** How likely each class is drawn; they sum to 1. */
  readonly chances: readonly number[];
  /** Tiles that hold enough of each class. */
  readonly tiles: readonly (readonly number[])[];
}

/**
 * Reads the labels of a split once.
 * @throws DataError where it has no labels, or no tile holds any class.
 */
export async function classTable(source: TileSource, classes: number, sampling: Sampling): Promise<ClassTable> {
  const pixels = new Float64Array(classes);
  const tiles = Array.from({ length: classes }, (): number[] => []);
  for (let index = 0; index < source.length; index++) {
    const { label, name } = await source.read(index);
    if (!label) throw new DataError(name, "has no label, which choosing crops by class needs");
    const counts = new Float64Array(classes);
    for (let i = 0; i < label.length; i++) if (label[i]! < classes) counts[label[i]!]!++;
    counts.forEach((count, c) => {
      pixels[c]! += count;
      if (count >= LEAST_PIXELS) tiles[c]!.push(index);
    });
  }
  const total = pixels.reduce((a, b) => a + b, 0);
  const weights = Array.from(pixels, (count, c) => {
    if (tiles[c]!.length === 0) return 0;
    return sampling === "rare" ? Math.exp((1 - count / total) / TEMPERATURE) : 1;
  });
  const sum = weights.reduce((a, b) => a + b, 0);
  if (sum === 0) throw new DataError(source.name, "no tile holds enough pixels of any class");
  return { chances: weights.map((w) => w / sum), tiles };
}

/** Draws two values, whatever comes of them. */
export function choose({ chances, tiles }: ClassTable, generator: Generator): Choice {
  const [first, second] = generator.uniform(2) as unknown as [number, number];
  let shows = chances.length - 1;
  for (let c = 0, sum = 0; c < chances.length; c++) {
    sum += chances[c]!;
    if (first < sum && chances[c]! > 0) {
      shows = c;
      break;
    }
  }
  while (chances[shows] === 0) shows--; // rounding put it beyond the last that can be drawn
  const having = tiles[shows]!;
  return { tile: having[Math.floor(second * having.length)]!, shows };
}
