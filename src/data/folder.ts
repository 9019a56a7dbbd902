import { lstat, readdir, readFile, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { DataError } from "../errors.js";
import type { Dataset, Domain, Split, Tile, TileSource, TileType } from "./dataset.js";
import { readImage, readLabel } from "./image.js";

const EXTENSIONS = new Set([".png", ".jpg", ".jpeg", ".tif", ".tiff"]);
const MAX_DESCRIPTION_BYTES = 2 ** 20;

export interface FolderOptions {
  /** Class names in index order; needed where the folder has no dataset.json. */
  readonly classes?: readonly string[];
  /** Label value of pixels that count nowhere; default: `ignore` of dataset.json, else 255. */
  readonly ignoreIndex?: number;
}

interface Pair {
  readonly stem: string;
  readonly image: string;
  readonly label: string | null;
}

/** Tiles in folders `{source,target}/{train,val}/{images,labels}`; an image and its label share a stem. */
export class FolderDataset implements Dataset {
  private constructor(
    readonly name: string,
    readonly classes: readonly string[],
    readonly ignoreIndex: number,
    readonly bands: number,
    readonly type: TileType,
    private readonly splits: ReadonlyMap<string, readonly Pair[]>,
    private readonly root: string,
  ) {}

  /**
   * Lists a data set, pairing images with labels. `target/train/labels` is not even looked at. `dataset.json` (`classes`,
   * `ignore`) is read where it exists.
   * @throws DataError for a missing folder, an empty one, an image without label or the reverse, two files of one stem,
   * or classes that nobody named.
   */
  static async open(root: string, options: FolderOptions = {}): Promise<FolderDataset> {
    await requireFolder(root);
    const described = await readDescription(join(root, "dataset.json"));
    const classes = options.classes ?? described.classes;
    if (!classes) throw new DataError(root, "has no dataset.json, so the classes must be named");
    const ignoreIndex = options.ignoreIndex ?? described.ignore ?? 255;
    checkClasses(root, classes, ignoreIndex);
    const splits = new Map<string, readonly Pair[]>();
    for (const domain of ["source", "target"] as const) {
      for (const split of ["train", "val"] as const) {
        const folder = join(root, domain, split);
        const exists = await stat(folder).then(
          () => true,
          () => false,
        );
        if (exists)
          splits.set(`${domain}/${split}`, await listPairs(folder, !(domain === "target" && split === "train")));
      }
    }
    if (splits.size === 0)
      throw new DataError(root, "holds none of source/train, source/val, target/train, target/val");
    return new FolderDataset(basename(root), classes, ignoreIndex, 3, "u8", splits, root);
  }

  has(domain: Domain, split: Split): boolean {
    return this.splits.has(`${domain}/${split}`);
  }

  split(domain: Domain, split: Split): TileSource {
    const name = `${domain}/${split}`;
    const pairs = this.splits.get(name);
    if (!pairs) throw new DataError(join(this.root, name), "no such folder");
    return {
      name,
      length: pairs.length,
      read: async (index) => {
        const pair = pairs[index];
        if (!pair) throw new RangeError(`${name} has ${pairs.length} tiles, there is none at ${index}`);
        return this.#read(name, pair);
      },
    };
  }

  async #read(split: string, { stem, image, label }: Pair): Promise<Tile> {
    const { height, width, data } = await readImage(image);
    const indices = label === null ? null : await readLabel(label, this.classes.length, this.ignoreIndex);
    if (indices && (indices.height !== height || indices.width !== width)) {
      const [is, wanted] = [`${indices.height} x ${indices.width}`, `${height} x ${width}`];
      throw new DataError(label!, `the label is ${is} pixels high and wide, its image ${wanted}`);
    }
    const place = { name: `${split}/${stem}`, height, width, bands: this.bands };
    return { ...place, image: data, valid: null, label: indices?.data ?? null };
  }
}

async function requireFolder(path: string): Promise<void> {
  try {
    if (!(await stat(path)).isDirectory()) throw new DataError(path, "not a folder");
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(path, "no such folder", { cause });
  }
}

async function listPairs(folder: string, labelled: boolean): Promise<Pair[]> {
  const images = await listStems(join(folder, "images"));
  if (images.size === 0) throw new DataError(join(folder, "images"), "holds no PNG, JPEG or TIFF file");
  const labels = labelled ? await listStems(join(folder, "labels")) : null;
  const pairs: Pair[] = [];
  for (const [stem, image] of images) {
    const label = labels?.get(stem) ?? null;
    if (labels && !label) throw new DataError(image, `has no label of the same name in ${join(folder, "labels")}`);
    pairs.push({ stem, image, label });
  }
  for (const [stem, label] of labels ?? []) {
    if (!images.has(stem)) throw new DataError(label, `has no image of the same name in ${join(folder, "images")}`);
  }
  return pairs;
}

/** Stem to path, sorted by code unit so that the order does not depend on the file system or the locale. */
async function listStems(folder: string): Promise<Map<string, string>> {
  await requireFolder(folder);
  const stems = new Map<string, string>();
  for (const name of (await readdir(folder)).sort()) {
    const extension = extname(name);
    if (name.startsWith(".") || !EXTENSIONS.has(extension.toLowerCase())) continue;
    const stem = basename(name, extension);
    const other = stems.get(stem);
    if (other) throw new DataError(join(folder, name), `shares its stem with ${basename(other)}`);
    stems.set(stem, join(folder, name));
  }
  return stems;
}

async function readDescription(file: string): Promise<{ classes?: string[]; ignore?: number }> {
  const found = await lstat(file).catch(() => null);
  if (!found) return {};
  if (!found.isFile()) throw new DataError(file, "not a regular file");
  if (found.size > MAX_DESCRIPTION_BYTES) throw new DataError(file, "larger than 1 MiB");
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new DataError(file, "not valid JSON", { cause });
  }
  if (value === null || typeof value !== "object") throw new DataError(file, "not a JSON object");
  const { classes, ignore } = value as { classes?: unknown; ignore?: unknown };
  const out: { classes?: string[]; ignore?: number } = {};
  if (classes !== undefined) {
    if (!Array.isArray(classes) || classes.some((c) => typeof c !== "string")) {
      throw new DataError(file, "classes must be a list of names");
    }
    out.classes = classes as string[];
  }
  if (ignore !== undefined && ignore !== null) {
    if (typeof ignore !== "number") throw new DataError(file, "ignore must be a number from 0 to 255");
    out.ignore = ignore;
  }
  return out;
}

function checkClasses(root: string, classes: readonly string[], ignoreIndex: number): void {
  if (classes.length < 2 || classes.length > 255) throw new DataError(root, "there must be 2 to 255 classes");
  if (classes.some((c) => c.length === 0) || new Set(classes).size !== classes.length) {
    throw new DataError(root, "class names must be different and not empty");
  }
  if (!Number.isInteger(ignoreIndex) || ignoreIndex < 0 || ignoreIndex > 255) {
    throw new DataError(root, "the ignore index must be a whole number from 0 to 255");
  }
  if (ignoreIndex < classes.length)
    throw new DataError(root, `the ignore index ${ignoreIndex} is the index of a class`);
}
