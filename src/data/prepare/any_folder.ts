import { basename, extname, join } from "node:path";
import { DataError } from "../../errors.js";
import { Generator } from "../../random.js";
import type { Domain, Split } from "../dataset.js";
import { withRaster } from "../image.js";
import { filesBelow } from "./find.js";
import type { LabelRule } from "./labels.js";
import type { Recipe, Scene } from "./recipe.js";

export interface AnyFolderOptions {
  readonly domain: Domain;
  readonly classes: readonly string[];
  readonly labels: LabelRule;
  /** From 0; null: all. */
  readonly bands: readonly number[] | null;
  /** Share of the scenes that are for validation: 0 to 0.9. */
  readonly valShare: number;
  /** Rows between training and validation of a scene that stands alone: they must not share pixels. */
  readonly gap: number;
}

const IMAGE = /\.(png|jpe?g|tiff?)$/i;

/**
 * Images of any size in `DIR/images`, labels of the same stems in `DIR/labels`; or images in DIR, which then serve as a target
 * without labels. Whole scenes are put aside for validation, so that no street runs from training into it; where there is but one
 * scene, its lower rows, with a gap between.
 * @throws DataError for a folder without images, a label without image, or some images with labels and some without.
 */
export async function anyFolderRecipe(root: string, options: AnyFolderOptions): Promise<Recipe> {
  const files = await filesBelow(root);
  const inside = (folder: string) =>
    new Map(
      files
        .filter(
          (f) =>
            IMAGE.test(f) &&
            (folder === "" ? !f.includes("/") : f.startsWith(`${folder}/`) && f.split("/").length === 2),
        )
        .map((f) => [basename(f, extname(f)), join(root, f)]),
    );
  const images = inside("images").size > 0 ? inside("images") : inside("");
  const labels = inside("labels");
  if (images.size === 0) throw new DataError(root, "holds no image, neither in images/ nor by itself");
  const lonely = [...labels.keys()].find((stem) => !images.has(stem));
  if (lonely !== undefined) throw new DataError(labels.get(lonely)!, "has no image of the same name");
  const bare = [...images.keys()].find((stem) => !labels.has(stem));
  if (labels.size > 0 && bare !== undefined)
    throw new DataError(images.get(bare)!, "has no label of the same name, though others have");
  if (labels.size === 0 && options.domain === "source")
    throw new DataError(root, "has no labels/: a source needs them");
  const stems = [...images.keys()];
  const { valShare, gap } = options;
  const of = (stem: string, split: Split, rows: Scene["rows"]): Scene => {
    return { stem, image: images.get(stem)!, label: labels.get(stem) ?? null, split, rows };
  };
  let scenes: Scene[];
  if (valShare === 0 || labels.size === 0) scenes = stems.map((stem) => of(stem, "train", null));
  else if (stems.length > 1) {
    const order = [...stems];
    new Generator(0).fork("validation scenes").shuffle(order);
    const count = Math.min(stems.length - 1, Math.max(1, Math.round(valShare * stems.length)));
    const chosen = new Set(order.slice(0, count));
    scenes = stems.map((stem) => of(stem, chosen.has(stem) ? "val" : "train", null));
  } else {
    const height = await withRaster(images.get(stems[0]!)!, async ({ info }) => info.height);
    const cut = Math.round(height * (1 - valShare));
    if (cut - gap < 1)
      throw new DataError(images.get(stems[0]!)!, `${height} rows are too few to be split with a gap of ${gap}`);
    scenes = [of(stems[0]!, "train", [0, cut - gap]), of(stems[0]!, "val", [cut, height])];
  }
  const { domain, classes, labels: rule, bands } = options;
  return {
    domain,
    scenes,
    classes,
    labels: rule,
    bands,
    gsd: null,
    protocol: `tiles-${basename(root)}-val${valShare}`,
  };
}
