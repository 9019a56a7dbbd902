import { inflateSync } from "node:zlib";
import type { Metadata } from "sharp";
import { DataError } from "../../errors.js";
import { damaged, decoderOf, MAX_PIXELS } from "./decoder.js";
import type { Raster, RasterInfo, Samples, Window } from "./raster.js";
import type { RegularFile } from "./regular_file.js";
import { checkWindow } from "./window.js";

/** Compressed bytes of one image. */
const MAX_FILE_BYTES = 256 * 2 ** 20;

/**
 * A PNG or JPEG: decoded whole when the first window is read, at the depth that it has. Grey is one band, colour three, and
 * an alpha channel a band of its own.
 */
export class EncodedRaster implements Raster {
  #pixels: Promise<Samples> | null = null;

  private constructor(
    readonly info: RasterInfo,
    private bytes: Uint8Array,
  ) {}

  /**
   * @throws DataError where the image is damaged, larger than 64 megapixels, CMYK, a palette, or turned by its EXIF tag,
   * which no label would follow.
   */
  static async open(file: RegularFile, format: "png" | "jpeg"): Promise<EncodedRaster> {
    const { path, size } = file;
    if (size > MAX_FILE_BYTES) throw new DataError(path, `larger than ${MAX_FILE_BYTES / 2 ** 20} MiB`);
    const bytes = await file.read(0, size);
    if (format === "png") checkChunks(path, bytes);
    let meta: Metadata;
    try {
      meta = await (await decoderOf(path, bytes)).metadata();
      if (!meta.width || !meta.height || meta.width * meta.height > MAX_PIXELS) {
        throw new Error("more than 64 megapixels");
      }
    } catch (cause) {
      throw damaged(path, cause);
    }
    if (meta.isPalette) {
      throw new DataError(
        path,
        "a palette image holds indices, not measurements: convert it to RGB, or to plain indices",
      );
    }
    if (meta.space === "cmyk") throw new DataError(path, "CMYK images are not supported: convert it to RGB");
    if ((meta.orientation ?? 1) !== 1) {
      throw new DataError(
        path,
        `its EXIF tag turns it (orientation ${meta.orientation}): turn the pixels, as labels carry no tag`,
      );
    }
    const colours = meta.channels - (meta.hasAlpha ? 1 : 0);
    const wide = meta.depth === "ushort";
    if ((meta.depth !== "uchar" && !wide) || (colours !== 1 && colours !== 3)) {
      throw new DataError(path, `${meta.space} of ${meta.channels} channels, ${meta.depth}, is not supported`);
    }
    const info: RasterInfo = {
      file: path,
      format,
      width: meta.width,
      height: meta.height,
      bands: meta.channels,
      type: wide ? "u16" : "u8",
      bits: meta.bitsPerSample ?? (wide ? 16 : 8),
      noData: null,
      alphaBand: meta.hasAlpha ? colours : null,
      colour: colours === 1 ? "grey" : "rgb",
      palette: null,
      geo: null,
      overviews: [],
      block: { width: meta.width, height: meta.height },
    };
    return new EncodedRaster(info, bytes);
  }

  async readWindow(window: Window, overview?: number): Promise<Samples> {
    const { file, width, bands } = this.info;
    if (overview !== undefined) throw new RangeError(`${file} has no overview ${overview}`);
    checkWindow(file, window, this.info, bands);
    this.#pixels ??= this.#decode();
    const pixels = await this.#pixels;
    if (window.width === width && window.height === this.info.height) return pixels;
    const row = window.width * bands;
    const out = pixels.slice(0, row * window.height);
    for (let y = 0; y < window.height; y++) {
      const start = ((window.y + y) * width + window.x) * bands;
      out.set(pixels.subarray(start, start + row), y * row);
    }
    return out;
  }

  async #decode(): Promise<Samples> {
    const { file, width, height, bands, type, colour } = this.info;
    try {
      const image = await decoderOf(file, this.bytes);
      const wide = type === "u16";
      const space = colour === "grey" ? (wide ? "grey16" : "b-w") : wide ? "rgb16" : "srgb";
      const { data, info } = await image
        .pipelineColourspace(space)
        .toColourspace(space)
        .timeout({ seconds: 60 })
        .raw({ depth: wide ? "ushort" : "uchar" })
        .toBuffer({ resolveWithObject: true });
      if (info.channels !== bands || info.width !== width || info.height !== height) {
        throw new Error(`decoded to ${info.width} x ${info.height} x ${info.channels}, which its header does not say`);
      }
      this.bytes = new Uint8Array();
      if (!wide) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      return new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
    } catch (cause) {
      throw damaged(file, cause);
    }
  }

  async close(): Promise<void> {
    this.#pixels = null;
    this.bytes = new Uint8Array();
  }
}

/** Compressed texts and profiles of a PNG: what follows their first zero bytes is a zlib stream. */
const COMPRESSED_CHUNKS = ["zTXt", "iTXt", "iCCP"];
/** That no one of them may unfold beyond. */
const MAX_TEXT_BYTES = 2 ** 20;

/**
 * What libpng lets pass: a file that was cut off before its end chunk, and text that unfolds without end.
 * @throws DataError for either.
 */
function checkChunks(file: string, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IEND") return;
    if (COMPRESSED_CHUNKS.includes(type)) checkText(file, type, bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  throw new DataError(file, "the PNG is cut off: it has no end chunk");
}

function checkText(file: string, type: string, chunk: Uint8Array): void {
  const keyword = chunk.indexOf(0);
  if (keyword < 0 || (type === "iTXt" && chunk[keyword + 1] === 0)) return; // an iTXt that is not compressed
  // iTXt: flag, method, then two more texts, each with its zero. Else: method.
  const start = type === "iTXt" ? chunk.indexOf(0, chunk.indexOf(0, keyword + 3) + 1) + 1 : keyword + 2;
  try {
    inflateSync(chunk.subarray(start), { maxOutputLength: MAX_TEXT_BYTES });
  } catch (cause) {
    const tooLong = cause instanceof RangeError;
    throw new DataError(file, `its ${type} chunk ${tooLong ? "unfolds to more than 1 MiB" : "is damaged"}`, { cause });
  }
}
