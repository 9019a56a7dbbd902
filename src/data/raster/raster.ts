/** Element types of rasters, as stored. Fewer bits than the type has (1, 4, 12) are widened, values unchanged. */
export type SampleType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64";
export type Samples =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** A rectangle of pixels, from the top left corner. */
export interface Window {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** One TIFF tag as it stands in a file, so that it can be written again unchanged. */
export interface RawTag {
  /** TIFF 6.0's number: 2 ASCII, 3 SHORT, 12 DOUBLE … */
  readonly type: number;
  readonly count: number;
  /** Little-endian, whatever the file's order. */
  readonly bytes: Uint8Array;
}

/** Where on Earth a raster lies. */
export interface GeoReference {
  /**
   * Affine, in GDAL's order: x = t[0] + column * t[1] + row * t[2], y = t[3] + column * t[4] + row * t[5], for the
   * top left corner of a pixel. Null where the file gives only control points, or nothing.
   */
  readonly transform: readonly [number, number, number, number, number, number] | null;
  /** Code of the projected, else geographic, coordinate system; null where the file names none. */
  readonly epsg: number | null;
  /** The file's georeferencing tags (33550, 33922, 34264, 34735, 34736, 34737), by number. */
  readonly tags: ReadonlyMap<number, RawTag>;
}

/** What a raster is, known before any pixel is decoded. */
export interface RasterInfo {
  readonly file: string;
  readonly format: "png" | "jpeg" | "tiff";
  readonly width: number;
  readonly height: number;
  /** Of a pixel, an alpha band included. */
  readonly bands: number;
  readonly type: SampleType;
  /** Bits of a sample in the file: 1 … 64. */
  readonly bits: number;
  /** Value of pixels that were not measured; may be NaN. Null where the file names none. */
  readonly noData: number | null;
  /** Index of the band that says how opaque a pixel is; null where there is none. */
  readonly alphaBand: number | null;
  /** What the bands are; "palette": one band of indices into `palette`. */
  readonly colour: "grey" | "rgb" | "palette" | "other";
  /** Red, green, blue of each index, 0 … 255; null unless `colour` is "palette". */
  readonly palette: Uint8Array | null; // [entries, 3]
  readonly geo: GeoReference | null;
  /** Reduced copies in the file, largest first. */
  readonly overviews: readonly { readonly width: number; readonly height: number }[];
  /** Rectangle in which reading is cheapest: the file's tiles or strips. */
  readonly block: { readonly width: number; readonly height: number };
}

/** An open image file, read window by window in bounded memory. */
export interface Raster {
  readonly info: RasterInfo;
  /**
   * The samples of a window, all bands, as stored: `[height, width, bands]`, an array of the type that `info.type` names.
   * @param overview Index into `info.overviews`, whose pixels the window then counts; default: full size.
   * @throws DataError where the file is damaged there; RangeError where the window leaves the raster.
   */
  readWindow(window: Window, overview?: number): Promise<Samples>;
  close(): Promise<void>;
}

/**
 * Which pixels were measured: 0 where every band but alpha is no-data or any is NaN, or alpha is 0; else 1.
 * @returns null where that is all of them.
 */
export function validityOf({ bands, noData, alphaBand }: RasterInfo, samples: Samples): Uint8Array | null {
  const pixels = samples.length / bands;
  const isFloat = samples instanceof Float32Array || samples instanceof Float64Array;
  if (noData === null && alphaBand === null && !isFloat) return null;
  const valid = new Uint8Array(pixels);
  let all = true;
  for (let p = 0; p < pixels; p++) {
    let [measured, broken] = [noData === null, false];
    for (let b = 0; b < bands; b++) {
      const value = samples[p * bands + b]!;
      if (b === alphaBand) broken ||= value === 0;
      else if (Number.isNaN(value)) broken = true;
      else measured ||= value !== noData;
    }
    valid[p] = measured && !broken ? 1 : 0;
    all &&= valid[p] === 1;
  }
  return all ? null : valid;
}
