import { basename, join } from "node:path";
import { DataError } from "../../errors.js";
import type { Domain } from "../dataset.js";
import { filesBelow, missing } from "./find.js";
import { colourKey, IGNORE, type LabelRule } from "./labels.js";
import type { Recipe, Scene } from "./recipe.js";

export const isprsSplits = ["isprs", "stdasegnet"] as const;
export const borderKinds = ["full", "eroded"] as const;
export const bandMaps = ["rgb", "irrg"] as const;

export interface IsprsOptions {
  readonly domain: Domain;
  /** "isprs": the organisers' training and test tiles, as mmsegmentation has them; "stdasegnet": ST-DASegNet's, Vaihingen only. */
  readonly split: (typeof isprsSplits)[number];
  /** "eroded": pixels at the borders of objects count nowhere ("noBoundary"). */
  readonly borders: (typeof borderKinds)[number];
  /** Clutter as a sixth class, or ignored. Figures with and without are some 8 points of mean IoU apart. */
  readonly clutter: "keep" | "ignore";
  /** Vaihingen has irrg only. */
  readonly bands: (typeof bandMaps)[number];
}

/** In the organisers' order; the colours are theirs. */
const CLASSES = ["impervious surface", "building", "low vegetation", "tree", "car", "clutter"] as const;
const COLOURS = [
  [255, 255, 255],
  [0, 0, 255],
  [0, 255, 255],
  [0, 255, 0],
  [255, 255, 0],
  [255, 0, 0],
] as const;

// The organisers' split, from torchgeo (torchgeo/datasets/potsdam.py, vaihingen.py) and mmsegmentation; the other from
// ST-DASegNet's lists of patches.
const POTSDAM_TRAIN =
  "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12";
const POTSDAM_TEST = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13";
const VAIHINGEN_TRAIN = "1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37";
const VAIHINGEN_TEST = "2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38";
const VAIHINGEN_STDASEGNET_VAL = "2 5 7 8 13 20 22 24";

const words = (text: string): readonly string[] => text.split(" ");

function labelsOf({ clutter, borders }: IsprsOptions): { classes: readonly string[]; labels: LabelRule } {
  const classes = clutter === "keep" ? CLASSES : CLASSES.slice(0, 5);
  const index = new Map(COLOURS.map(([r, g, b], i) => [colourKey(r, g, b), i < classes.length ? i : IGNORE]));
  if (borders === "eroded") index.set(colourKey(0, 0, 0), IGNORE);
  return { classes, labels: { kind: "colours", index } };
}

const protocolOf = (city: string, { split, bands, borders, clutter }: IsprsOptions): string =>
  [city, split, bands, borders, clutter === "keep" ? "clutter" : "noclutter"].join("-");

/**
 * ISPRS Potsdam, as its archives unpack: `top_potsdam_2_10_RGB.tif` (or `_IRRG`, or `_RGBIR` for either) and
 * `top_potsdam_2_10_label.tif` (`…_label_noBoundary.tif`), in whatever folders.
 * @throws DataError where a tile of the split or its label is missing.
 */
export async function potsdamRecipe(root: string, options: IsprsOptions): Promise<Recipe> {
  if (options.split !== "isprs")
    throw new DataError(root, "ST-DASegNet's split of Potsdam is known by its patches only: take isprs");
  const files = await filesBelow(root);
  const byName = new Map(files.map((file) => [basename(file), join(root, file)]));
  const { bands, borders } = options;
  const own = bands.toUpperCase();
  const hasOwn = byName.has(`top_potsdam_2_10_${own}.tif`);
  const scenes: Scene[] = [];
  for (const [split, names] of [
    ["train", words(POTSDAM_TRAIN)],
    ["val", words(POTSDAM_TEST)],
  ] as const) {
    for (const name of names) {
      const stem = `top_potsdam_${name}`;
      const wanted = `${stem}_${hasOwn ? own : "RGBIR"}.tif`;
      const image = byName.get(wanted);
      const labelled = `${stem}_label${borders === "eroded" ? "_noBoundary" : ""}.tif`;
      const label = byName.get(labelled);
      if (!image) throw missing(root, files, hasOwn ? wanted : `top_potsdam_${name}_${own}.tif and no ${wanted}`);
      if (!label) throw missing(root, files, labelled);
      scenes.push({ stem: name, image, label, split, rows: null });
    }
  }
  // RGBIR holds red, green, blue, infrared.
  const picked = hasOwn ? [0, 1, 2] : bands === "rgb" ? [0, 1, 2] : [3, 0, 1];
  const common = { domain: options.domain, scenes, bands: picked, gsd: 0.05, protocol: protocolOf("potsdam", options) };
  return { ...common, ...labelsOf(options) };
}

/**
 * ISPRS Vaihingen: `top/top_mosaic_09cm_area1.tif` (infrared, red, green), and a file of the same name in a folder whose
 * name has "gts" or "ground_truth" in it (`…_noBoundary.tif` for eroded borders).
 * @throws DataError where a tile of the split or its label is missing, or RGB is asked for.
 */
export async function vaihingenRecipe(root: string, options: IsprsOptions): Promise<Recipe> {
  if (options.bands !== "irrg")
    throw new DataError(root, "Vaihingen was flown without blue: --bands irrg is all there is");
  const files = await filesBelow(root);
  const isTruth = (file: string) => /gts|ground_truth/i.test(file);
  const images = new Map(files.filter((f) => !isTruth(f)).map((f) => [basename(f), join(root, f)]));
  const truths = new Map(files.filter(isTruth).map((f) => [basename(f), join(root, f)]));
  const all = [...words(VAIHINGEN_TRAIN), ...words(VAIHINGEN_TEST)];
  const val = new Set(words(options.split === "isprs" ? VAIHINGEN_TEST : VAIHINGEN_STDASEGNET_VAL));
  const scenes = all.map((area): Scene => {
    const stem = `top_mosaic_09cm_area${area}`;
    const truth = `${stem}${options.borders === "eroded" ? "_noBoundary" : ""}.tif`;
    const [image, label] = [images.get(`${stem}.tif`), truths.get(truth)];
    if (!image) throw missing(root, files, `${stem}.tif`);
    if (!label) throw missing(root, files, `${truth} in a folder of ground truth`);
    return { stem: `area${area}`, image, label, split: val.has(area) ? "val" : "train", rows: null };
  });
  const common = {
    domain: options.domain,
    scenes,
    bands: [0, 1, 2],
    gsd: 0.09,
    protocol: protocolOf("vaihingen", options),
  };
  return { ...common, ...labelsOf(options) };
}
