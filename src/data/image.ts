import { DataError } from "../errors.js";
import type { TileSamples, TileType } from "./dataset.js";
import { openRaster } from "./raster/open.js";
import { type Raster, type RasterInfo, type Samples, type SampleType, validityOf } from "./raster/raster.js";

/** Tiles are read whole: larger images are for `lacuna data prepare` to cut up, and for `lacuna predict`. */
const MAX_PIXELS = 64 * 2 ** 20;

/** An image as training and evaluation take it: alpha has become validity. */
export interface ImageTile {
  readonly height: number;
  readonly width: number;
  readonly bands: number;
  readonly image: TileSamples; // [height, width, bands]
  /** 0 where nothing was measured; null where everything was. */
  readonly valid: Uint8Array | null; // [height, width]
}

/** What a tile of this raster has: its bands but alpha, and their type. */
export const tileBands = ({ bands, alphaBand }: RasterInfo): number => bands - (alphaBand === null ? 0 : 1);
export const tileType = (type: SampleType): TileType => (type === "u8" || type === "u16" ? type : "f32");

/** Opens an image, hands it to `use`, and closes it. */
export async function withRaster<T>(file: string, use: (raster: Raster) => Promise<T>): Promise<T> {
  const raster = await openRaster(file);
  try {
    return await use(raster);
  } finally {
    await raster.close();
  }
}

/**
 * Samples of a window as a tile holds them: alpha and no-data become `valid`, types other than 8 and 16 bits unsigned
 * become f32, and what was not measured is 0.
 */
export function toTile(info: RasterInfo, samples: Samples, height: number, width: number): ImageTile {
  const bands = tileBands(info);
  const valid = validityOf(info, samples);
  const pixels = height * width;
  const types = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array } as const;
  const type = tileType(info.type);
  if (info.alphaBand === null && !valid && samples instanceof types[type]) {
    return { height, width, bands, image: samples, valid };
  }
  const image = new types[type](pixels * bands);
  for (let p = 0, to = 0; p < pixels; p++) {
    if (valid && valid[p] === 0) {
      to += bands;
      continue;
    }
    for (let b = 0; b < info.bands; b++) if (b !== info.alphaBand) image[to++] = samples[p * info.bands + b]!;
  }
  return { height, width, bands, image, valid };
}

/**
 * Reads a whole image tile.
 * @throws DataError where it cannot be read exactly (see `openRaster`), is a palette image or larger than 64 megapixels.
 */
export function readImage(file: string): Promise<ImageTile> {
  return withRaster(file, async (raster) => {
    const { info } = raster;
    requireImage(info);
    const { width, height } = info;
    if (width * height > MAX_PIXELS) {
      throw new DataError(
        file,
        `${width} x ${height} pixels are too many for a tile: lacuna data prepare tiles cuts it up`,
      );
    }
    return toTile(info, await raster.readWindow({ x: 0, y: 0, width, height }), height, width);
  });
}

/** @throws DataError where a raster holds no measurements but indices into a palette. */
export function requireImage({ file, colour }: RasterInfo): void {
  if (colour === "palette") {
    throw new DataError(file, "a palette image holds indices, not measurements: convert it to RGB");
  }
}

export interface LabelTile {
  readonly height: number;
  readonly width: number;
  readonly data: Uint8Array; // [height, width]
}

/**
 * Reads a whole label tile: one 8-bit band whose values are class indices below `classes`, or `ignoreIndex`. A TIFF may
 * carry colours for the indices.
 * @throws DataError as `readImage`, and where the file is a JPEG, has colours for values, or holds another value.
 */
export function readLabel(file: string, classes: number, ignoreIndex: number): Promise<LabelTile> {
  return withRaster(file, async (raster) => {
    const { info } = raster;
    requireLabel(info);
    const { width, height } = info;
    if (width * height > MAX_PIXELS) throw new DataError(file, `${width} x ${height} pixels are too many for a tile`);
    const data = await raster.readWindow({ x: 0, y: 0, width, height });
    for (let i = 0; i < data.length; i++) {
      const value = data[i]!;
      if (value >= classes && value !== ignoreIndex) {
        const at = `row ${Math.floor(i / width)}, column ${i % width}`;
        const known = `neither a class (0 … ${classes - 1}) nor ${ignoreIndex} (ignore)`;
        throw new DataError(file, `label ${value} at ${at} is ${known}`);
      }
    }
    return { height, width, data: data instanceof Uint8Array ? data : Uint8Array.from(data) };
  });
}

/** @throws DataError where a raster cannot be a label, whatever its values. */
export function requireLabel({ file, format, bands, type, bits }: RasterInfo): void {
  if (format === "jpeg") throw new DataError(file, "labels must be PNG or TIFF: JPEG changes the indices");
  if (bands !== 1 || type !== "u8" || bits !== 8) {
    const found = `${bands === 1 ? "one band" : `${bands} bands`} of ${bits} bits`;
    throw new DataError(file, `labels must be one 8-bit band of class indices, this one has ${found}`);
  }
}
