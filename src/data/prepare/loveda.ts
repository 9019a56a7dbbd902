import { basename, extname, join } from "node:path";
import type { Domain, Split } from "../dataset.js";
import { filesBelow, missing } from "./find.js";
import { IGNORE, type LabelRule } from "./labels.js";
import type { Recipe, Scene } from "./recipe.js";

export const loveDAScenes = ["urban", "rural"] as const;
type LoveDAScene = (typeof loveDAScenes)[number];

const CLASSES = ["background", "building", "road", "water", "barren", "forest", "agriculture"] as const;
/** Masks count from 1; 0 is no data. */
const LABELS: LabelRule = {
  kind: "values",
  index: new Map([[0, IGNORE], ...CLASSES.map((_, i) => [i + 1, i] as const)]),
};

/**
 * LoveDA as its archives unpack: `{Train,Val}/{Urban,Rural}/{images_png,masks_png}/N.png`, 0.3 m a pixel. Train becomes
 * train, Val becomes val. (The challenge adapts to the unlabelled images of Val itself; here val stays unseen.)
 * @throws DataError where a folder is empty or an image has no mask.
 */
export async function loveDARecipe(root: string, domain: Domain, scene: LoveDAScene): Promise<Recipe> {
  const files = await filesBelow(root);
  const place = scene === "urban" ? "Urban" : "Rural";
  const scenes: Scene[] = [];
  for (const [split, part] of [
    ["train", "Train"],
    ["val", "Val"],
  ] as const satisfies readonly (readonly [Split, string])[]) {
    const folder = `${part}/${place}/images_png/`;
    const images = files.filter((file) => file.includes(folder) && file.endsWith(".png"));
    if (images.length === 0) throw missing(root, files, `${folder}*.png`);
    const known = new Set(files);
    for (const image of images) {
      const mask = image.replace("/images_png/", "/masks_png/");
      if (!known.has(mask)) throw missing(root, files, mask);
      const stem = `${scene}_${basename(image, extname(image))}`;
      scenes.push({ stem, image: join(root, image), label: join(root, mask), split, rows: null });
    }
  }
  return { domain, scenes, classes: CLASSES, labels: LABELS, bands: null, gsd: 0.3, protocol: `loveda-${scene}` };
}
