import type { Domain, Split } from "../dataset.js";
import type { LabelRule } from "./labels.js";

/** One image of an archive, and where its tiles go. */
export interface Scene {
  /** Begins the names of its tiles. */
  readonly stem: string;
  readonly image: string;
  /** Null where there is none: the tiles then serve adaptation only. */
  readonly label: string | null;
  readonly split: Split;
  /** Rows that are used: `[from, to)`, of the image as it is. Null: all. */
  readonly rows: readonly [number, number] | null;
}

/** How one domain of a data set is made from an archive. */
export interface Recipe {
  readonly domain: Domain;
  readonly scenes: readonly Scene[];
  /** Names in index order. */
  readonly classes: readonly string[];
  readonly labels: LabelRule;
  /** Bands of the image that are kept, in order, from 0; null: all but alpha. */
  readonly bands: readonly number[] | null;
  /** Of the images as they are, metres; null: what each file's georeference says. */
  readonly gsd: number | null;
  /** Says what was done, so that figures of different protocols are never compared: it goes into every report. */
  readonly protocol: string;
}

export interface CutOptions {
  /** Side of a tile, pixels. */
  readonly tile: number;
  /** From one tile to the next. */
  readonly stride: number;
  /** Common ground sample distance to resample to, metres; null: as it is. */
  readonly gsd: number | null;
}
