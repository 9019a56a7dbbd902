import { lstat, readdir, readFile, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { DataError } from "../errors.js";
import { type Dataset, type Domain, type Split, type Tile, type TileSource, type TileType, typeOf } from "./dataset.js";
import { readImage, readLabel, requireImage, tileBands, tileType, withRaster } from "./image.js";

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
    readonly protocol: string | null,
    private readonly splits: ReadonlyMap<string, readonly Pair[]>,
    private readonly root: string,
  ) {}

  /**
   * Lists a data set, pairing images with labels. `target/train/labels` is not even looked at. `dataset.json` (`classes`,
   * `ignore`, `protocol`) is read where it exists.
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
    const [[first]] = [...splits.values()] as [readonly [Pair]]; // no split is empty
    const { bands, type } = await withRaster(first.image, async ({ info }) => {
      requireImage(info);
      return { bands: tileBands(info), type: tileType(info.type) };
    });
    const protocol = described.protocol ?? null;
    return new FolderDataset(basename(root), classes, ignoreIndex, bands, type, protocol, splits, root);
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

  async #read(split: string, pair: Pair): Promise<Tile> {
    const tile = await readImage(pair.image);
    const { height, width, bands, valid } = tile;
    const [is, wanted] = [`${bands} bands, ${typeOf(tile.image)}`, `${this.bands} bands, ${this.type}`];
    if (is !== wanted) throw new DataError(pair.image, `has ${is}, the first image of ${this.name} ${wanted}`);
    const name = `${split}/${pair.stem}`;
    if (pair.label === null) return { name, ...tile, label: null };
    const { data: label, ...size } = await readLabel(pair.label, this.classes.length, this.ignoreIndex);
    if (size.height !== height || size.width !== width) {
      const [has, should] = [`${size.height} x ${size.width}`, `${height} x ${width}`];
      throw new DataError(pair.label, `the label is ${has} pixels high and wide, its image ${should}`);
    }
    for (let p = 0; valid && p < label.length; p++) if (valid[p] === 0) label[p] = this.ignoreIndex;
    return { name, ...tile, label };
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

/** What dataset.json says about a folder of tiles. */
interface Description {
  readonly classes?: readonly string[];
  readonly ignore?: number;
  readonly protocol?: string;
}

/** @returns what the file says; nothing where it does not exist. @throws DataError where it is not such a file. */
export async function readDescription(file: string): Promise<Description> {
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
  const { classes, ignore, protocol } = value as { classes?: unknown; ignore?: unknown; protocol?: unknown };
  const out: { -readonly [K in keyof Description]: Description[K] } = {};
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
  if (protocol !== undefined && protocol !== null) {
    if (typeof protocol !== "string") throw new DataError(file, "protocol must be a text");
    out.protocol = protocol;
  }
  return out;
}

/** @throws DataError naming `root` where names or index cannot be used. */
export function checkClasses(root: string, classes: readonly string[], ignoreIndex: number): void {
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
