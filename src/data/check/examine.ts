import { createHash } from "node:crypto";
import { openRaster } from "../raster/open.js";
import { type Raster, type RasterInfo, type Samples, validityOf } from "../raster/raster.js";

/** Decoded bytes in memory at a time: tiles of any height are walked strip by strip. */
const STRIP_BYTES = 32 * 2 ** 20;

const BYTES = { u8: 1, i8: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, f64: 8 } as const;

/** Calls `visit` with strips of full width, from top to bottom; `row` is the strip's first. */
export async function eachStrip(raster: Raster, visit: (samples: Samples, row: number) => void): Promise<void> {
  const { width, height, bands, type, block } = raster.info;
  const fitting = Math.max(1, Math.floor(STRIP_BYTES / (width * bands * BYTES[type])));
  const rows = fitting > block.height ? fitting - (fitting % block.height) : fitting;
  for (let row = 0; row < height; row += rows) {
    const window = { x: 0, y: row, width, height: Math.min(rows, height - row) };
    visit(await raster.readWindow(window), row);
  }
}

/** Sums over the measured pixels of one band, in stored units. */
export interface BandSums {
  readonly sum: number;
  readonly square: number;
  readonly min: number;
  readonly max: number;
}

export interface ImageFacts {
  readonly info: RasterInfo;
  /** SHA-256 of size, type and decoded samples: the same for the same pixels in whatever file. */
  readonly hash: string;
  /** Pixels without measurement: no-data, NaN or transparent. */
  readonly lost: number;
  /** Samples that are NaN. */
  readonly notANumber: number;
  /** Samples that are infinite. */
  readonly infinite: number;
  /** Pixels that the sums count: measured and finite. */
  readonly measured: number;
  /** By band, alpha left out. */
  readonly bands: readonly BandSums[];
}

/**
 * Reads an image once, strip by strip.
 * @throws DataError where it cannot be read.
 */
export async function examineImage(file: string): Promise<ImageFacts> {
  const raster = await openRaster(file);
  try {
    const { info } = raster;
    const { bands, alphaBand } = info;
    const hash = createHash("sha256").update(`${info.width}x${info.height}x${bands} ${info.type}\n`);
    const sums = Array.from({ length: bands }, () => ({
      sum: 0,
      square: 0,
      min: Number.POSITIVE_INFINITY,
      max: Number.NEGATIVE_INFINITY,
    }));
    let [lost, notANumber, infinite, measured] = [0, 0, 0, 0];
    await eachStrip(raster, (samples) => {
      hash.update(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength));
      const valid = validityOf(info, samples);
      for (let at = 0, pixel = 0; at < samples.length; at += bands, pixel++) {
        let finite = true;
        for (let band = 0; band < bands; band++) {
          const value = samples[at + band]!;
          if (Number.isFinite(value)) continue;
          finite = false;
          if (Number.isNaN(value)) notANumber++;
          else infinite++;
        }
        if (valid && valid[pixel] === 0) lost++;
        else if (finite) {
          measured++;
          for (let band = 0; band < bands; band++) {
            const value = samples[at + band]!;
            const entry = sums[band]!;
            entry.sum += value;
            entry.square += value * value;
            if (value < entry.min) entry.min = value;
            if (value > entry.max) entry.max = value;
          }
        }
      }
    });
    const kept = sums.filter((_, band) => band !== alphaBand);
    return { info, hash: hash.digest("hex"), lost, notANumber, infinite, measured, bands: kept };
  } finally {
    await raster.close();
  }
}

export interface LabelFacts {
  readonly info: RasterInfo;
  /** Pixels by value; null where the file cannot be a label, so that its pixels were not counted. */
  readonly histogram: Float64Array | null; // [256]
  /** Row and column of the first pixel of each value. */
  readonly first: ReadonlyMap<number, readonly [row: number, column: number]>;
  /** Why it cannot be a label. */
  readonly refusal: { readonly code: string; readonly message: string } | null;
}

/**
 * Reads a label once, strip by strip, whatever values it holds.
 * @throws DataError where it cannot be read.
 */
export async function examineLabel(file: string): Promise<LabelFacts> {
  const raster = await openRaster(file);
  try {
    const { info } = raster;
    const refusal = refusalOf(info);
    const histogram = refusal ? null : new Float64Array(256);
    const first = new Map<number, readonly [number, number]>();
    await eachStrip(raster, (samples, row) => {
      if (!histogram) return; // decoded all the same: damage counts more than what is wrong with the kind
      for (let i = 0; i < samples.length; i++) {
        const value = samples[i]!;
        if (histogram[value]! === 0) first.set(value, [row + Math.floor(i / info.width), i % info.width]);
        histogram[value]!++;
      }
    });
    return { info, histogram, first, refusal };
  } finally {
    await raster.close();
  }
}

function refusalOf({ format, colour, bands, type, bits }: RasterInfo): LabelFacts["refusal"] {
  if (format === "jpeg") {
    const message = "is a JPEG, which changes class indices; make the label again as PNG or TIFF from its origin";
    return { code: "label-jpeg", message };
  }
  if (colour === "palette") {
    const message =
      "has a palette; lacuna data prepare tiles writes its indices (or, with --colours, what its colours mean) as plain labels";
    return { code: "label-palette", message };
  }
  if (bands !== 1) {
    const message = `has ${bands} bands, so it shows colours; lacuna data prepare tiles --colours FILE turns colours into class indices`;
    return { code: "label-colours", message };
  }
  if (type !== "u8" || bits !== 8) {
    const message = `has samples of ${bits} bits (${type}); class indices must be stored in 8 bits: lacuna data prepare tiles rewrites them`;
    return { code: "label-type", message };
  }
  return null;
}
