import { createHash } from "node:crypto";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder, writeAtomic } from "../../checkpoint/index.js";
import { DataError } from "../../errors.js";
import type { TileSamples } from "../dataset.js";
import { readDescription } from "../folder.js";
import { requireImage, tileType, toTile, withRaster } from "../image.js";
import { encodePNG } from "../png.js";
import type { Raster, RasterInfo, Window } from "../raster/raster.js";
import { geoReferenceAt } from "../raster/tiff/geo.js";
import { TiffWriter } from "../raster/tiff_writer.js";
import { IGNORE, toIndices } from "./labels.js";
import type { CutOptions, Recipe, Scene } from "./recipe.js";
import { inputWindow, type Resampling, resampleImage, resampleLabel } from "./resample.js";

/** One tile of `manifest.json`. */
interface TileEntry {
  readonly tile: string;
  readonly image: string;
  readonly label: string | null;
  /** In pixels of the resampled scene. */
  readonly window: Window;
  /** Of the samples and the class indices, as they are in memory. */
  readonly sha256: string;
}

export interface CutReport {
  readonly tiles: Readonly<Record<"train" | "val", number>>;
  /** Tiles without one measured pixel, left out. */
  readonly empty: number;
  readonly protocol: string;
}

/**
 * Cuts the scenes of a recipe into tiles under `out/{source,target}/{train,val}/{images,labels}/`, one window at a time, and says
 * in `out/<domain>/manifest.json` where each came from and by which protocol. All is made beside its place and moved there
 * when complete; `out/dataset.json` then names classes and protocol.
 * @throws DataError where a file cannot be used, or the domain is there already by another protocol.
 * @returns null where exactly this was there already.
 */
export async function cutTiles(
  recipe: Recipe,
  out: string,
  options: CutOptions,
  onScene: (name: string, done: number, total: number) => void = () => {},
): Promise<CutReport | null> {
  const { domain, scenes } = recipe;
  const protocol = [recipe.protocol, ...(options.gsd === null ? [] : [`gsd${options.gsd}`]), `t${options.tile}`].join(
    "-",
  );
  const place = join(out, domain);
  await mkdir(out, { recursive: true });
  const described = await readDescription(join(out, "dataset.json"));
  if (described.classes && described.classes.join() !== recipe.classes.join()) {
    throw new DataError(
      join(out, "dataset.json"),
      `has the classes ${described.classes.join(", ")}, not ${recipe.classes.join(", ")}`,
    );
  }
  const parts = partsOf(described.protocol ?? "");
  if (await exists(place)) {
    if (parts[domain] === protocol) return null;
    throw new DataError(
      place,
      `is there already, by the protocol ${parts[domain] ?? "of nobody knows what"}: choose another --out`,
    );
  }
  const partial = join(out, `.${domain}.lacuna-part`);
  await rm(partial, { recursive: true, force: true });
  const entries: TileEntry[] = [];
  let empty = 0;
  for (const [index, scene] of scenes.entries()) {
    onScene(scene.stem, index, scenes.length);
    const cut = await cutScene(scene, recipe, partial, options);
    entries.push(...cut.entries);
    empty += cut.empty;
  }
  if (entries.length === 0) throw new DataError(out, "no tile has a measured pixel");
  const about = { protocol, lacuna: 1, options, classes: recipe.classes, ignore: IGNORE };
  await writeAtomic(join(partial, "manifest.json"), `${JSON.stringify({ ...about, tiles: entries }, null, 1)}\n`);
  await rename(partial, place);
  await syncFolder(out);
  const both = { ...parts, [domain]: protocol };
  const joined = (["source", "target"] as const).flatMap((d) => (both[d] ? [`${d}: ${both[d]}`] : [])).join("; ");
  const description = { classes: recipe.classes, ignore: IGNORE, protocol: joined };
  await writeAtomic(join(out, "dataset.json"), `${JSON.stringify(description, null, 2)}\n`);
  const count = (split: string) => entries.filter(({ tile }) => tile.startsWith(split)).length;
  return { tiles: { train: count("train"), val: count("val") }, empty, protocol };
}

/** `source: …; target: …` by domain. */
const partsOf = (protocol: string): Record<string, string> =>
  Object.fromEntries(
    protocol.split("; ").flatMap((part) => (part.includes(": ") ? [part.split(": ") as [string, string]] : [])),
  );

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

async function cutScene(scene: Scene, recipe: Recipe, folder: string, options: CutOptions) {
  return withRaster(scene.image, async (image) => {
    requireImage(image.info);
    const { label } = scene;
    const cut = (labels: Raster | null) => cutRasters(scene, recipe, folder, options, image, labels);
    return label === null ? cut(null) : withRaster(label, cut);
  });
}

async function cutRasters(
  scene: Scene,
  recipe: Recipe,
  folder: string,
  { tile, stride, gsd }: CutOptions,
  image: Raster,
  labels: Raster | null,
): Promise<{ entries: TileEntry[]; empty: number }> {
  const { info } = image;
  if (labels && (labels.info.width !== info.width || labels.info.height !== info.height)) {
    const [is, wanted] = [labels.info, info].map(({ width, height }) => `${width} x ${height}`);
    throw new DataError(labels.info.file, `the label is ${is} pixels, its image ${wanted}`);
  }
  const own = gsd === null ? null : (recipe.gsd ?? gsdOf(info));
  const factor = own === null || gsd === null ? 1 : own / gsd;
  const [first, last] = scene.rows ?? [0, info.height];
  const size = { width: Math.round(info.width * factor), height: Math.round((last - first) * factor) };
  const top = Math.round(first * factor);
  const [height, width] = [Math.min(tile, size.height), Math.min(tile, size.width)];
  const entries: TileEntry[] = [];
  let empty = 0;
  for (const y of starts(size.height, height, stride)) {
    for (const x of starts(size.width, width, stride)) {
      const output = { x, y: y + top, width, height };
      const made = await tileOf(image, labels, recipe, factor, output);
      if (made.valid && !made.valid.includes(1)) {
        empty++;
        continue;
      }
      const stem = `${scene.stem}_x${x}_y${output.y}`;
      const base = join(folder, scene.split);
      const file = await writeImage(join(base, "images"), stem, made, info, factor, output);
      if (made.label) {
        await mkdir(join(base, "labels"), { recursive: true });
        await writeAtomic(join(base, "labels", `${stem}.png`), encodePNG(made.label, height, width));
      }
      const hash = createHash("sha256").update(bytesOf(made.image));
      if (made.label) hash.update(made.label);
      const sha256 = hash.digest("hex");
      entries.push({ tile: `${scene.split}/${file}`, image: scene.image, label: scene.label, window: output, sha256 });
    }
  }
  return { entries, empty };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: TileSamples) => new Uint8Array(buffer, byteOffset, byteLength);

/** Every `stride`, the last moved back to the edge. */
function starts(size: number, tile: number, stride: number): number[] {
  const out: number[] = [];
  for (let at = 0; at + tile < size; at += stride) out.push(at);
  out.push(size - tile);
  return out;
}

interface MadeTile {
  readonly bands: number;
  readonly image: TileSamples;
  readonly valid: Uint8Array | null;
  readonly label: Uint8Array | null;
}

async function tileOf(
  image: Raster,
  labels: Raster | null,
  { bands: picked, labels: rule }: Recipe,
  factor: number,
  output: Window,
): Promise<MadeTile> {
  const { info } = image;
  const scaling = { factor: { x: factor, y: factor }, output };
  const resampling: Resampling = { ...scaling, input: factor === 1 ? output : inputWindow(scaling, info) };
  const { input } = resampling;
  const all = toTile(info, await image.readWindow(input), input.height, input.width);
  const chosen = picked === null ? all : pick(info, all, picked);
  const scaled =
    factor === 1
      ? chosen
      : { bands: chosen.bands, ...resampleImage(chosen.image, chosen.valid, chosen.bands, resampling) };
  const { bands, image: samples, valid } = scaled;
  if (!labels) return { bands, image: samples, valid, label: null };
  const indices = toIndices(labels.info, await labels.readWindow(input), rule, input);
  const label = factor === 1 ? indices : resampleLabel(indices, resampling);
  for (let p = 0; valid && p < label.length; p++) if (valid[p] === 0) label[p] = IGNORE;
  return { bands, image: samples, valid, label };
}

/** Some of the bands, in the order asked for. */
function pick(info: RasterInfo, tile: Omit<MadeTile, "label">, picked: readonly number[]): Omit<MadeTile, "label"> {
  const missing = picked.find((band) => band >= tile.bands);
  if (missing !== undefined) throw new DataError(info.file, `has ${tile.bands} bands, there is no band ${missing + 1}`);
  const pixels = tile.image.length / tile.bands;
  const image = tile.image.slice(0, pixels * picked.length); // some of the bands, none twice: room for all of them
  for (let p = 0, to = 0; to < image.length; p += tile.bands) for (const b of picked) image[to++] = tile.image[p + b]!;
  return { bands: picked.length, image, valid: tile.valid };
}

/** As PNG where that keeps everything: 8 bits, grey or RGB, all measured, no georeference; else as GeoTIFF. */
async function writeImage(
  folder: string,
  stem: string,
  { bands, image, valid }: MadeTile,
  info: RasterInfo,
  factor: number,
  { x, y, width, height }: Window,
): Promise<string> {
  await mkdir(folder, { recursive: true });
  const transform = info.geo?.transform ?? null;
  if (image instanceof Uint8Array && (bands === 1 || bands === 3) && !valid && !transform) {
    await writeAtomic(join(folder, `${stem}.png`), encodePNG(image, height, width));
    return `${stem}.png`;
  }
  const t = transform;
  const geo =
    info.geo && t
      ? geoReferenceAt(info.geo, [
          ...([t[0] + (x / factor) * t[1] + (y / factor) * t[2], t[1] / factor, t[2] / factor] as const),
          ...([t[3] + (x / factor) * t[4] + (y / factor) * t[5], t[4] / factor, t[5] / factor] as const),
        ])
      : null;
  const type = tileType(info.type);
  const noData = valid ? (type === "f32" ? Number.NaN : (info.noData ?? 0)) : null;
  if (valid && noData !== null) {
    for (let p = 0; p < valid.length; p++) if (valid[p] === 0) image.fill(noData, p * bands, (p + 1) * bands);
  }
  const rgb = bands >= 3 && info.colour === "rgb";
  const spec = {
    width,
    height,
    bands,
    type,
    geo,
    rgb,
    noData,
    palette: null,
    metadata: new Map<string, string>(),
    notes: [],
  };
  const writer = await TiffWriter.open(join(folder, `${stem}.tif`), spec, "");
  await writer.write(image);
  await writer.finish();
  return `${stem}.tif`;
}

/** Metres a pixel. @throws DataError where the georeference does not say. */
function gsdOf({ file, geo }: RasterInfo): number {
  const t = geo?.transform;
  const size = t ? Math.hypot(t[1], t[4]) : 0;
  // Degrees of a geographic system: no image has pixels of 0.01 m in metres and none of more than 1,000 m in degrees.
  if (!t || size < 0.005) {
    throw new DataError(file, "has no georeference in metres, so that --gsd does not know what to resample from");
  }
  return size;
}
