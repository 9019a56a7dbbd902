import { DataError } from "../../../errors.js";
import type { Raster, RasterInfo, Samples, Window } from "../raster.js";
import type { RegularFile } from "../regular_file.js";
import { checkWindow } from "../window.js";
import { decoders } from "./decompress.js";
import { type Directory, readDirectories } from "./directory.js";
import { decodeEmbedded } from "./embedded.js";
import { geoReferenceOf } from "./geo.js";
import { coloursOf, isJpeg, isWebp, type Layout, layoutOf } from "./layout.js";
import { arrayTypes, rowBytes, samplesOf } from "./samples.js";

/** Decoded blocks that stay in memory, so that neighbouring windows do not decode them twice. */
const CACHE_BYTES = 64 * 2 ** 20;
/** NewSubfileType's bits. */
const [REDUCED, MASK] = [1, 4];

/** A TIFF, BigTIFF, GeoTIFF or COG, of which only the strips or tiles under a window are read and decoded. */
export class TiffRaster implements Raster {
  readonly #cache = new Map<string, Samples>();
  #cached = 0;

  private constructor(
    private readonly file: RegularFile,
    readonly info: RasterInfo,
    /** Full size first, then overviews. */
    private readonly levels: readonly Layout[],
  ) {}

  /** @throws DataError where the file is damaged, or holds what cannot be read; it names which. */
  static async open(file: RegularFile): Promise<TiffRaster> {
    const { directories, little } = await readDirectories(file);
    const first = directories[0]!;
    const full = await layoutOf(file.path, file.size, first, little);
    const levels = [full];
    for (const directory of directories.slice(1)) {
      const kind = await directory.number(254, 0);
      if ((kind & REDUCED) === 0 || (kind & MASK) !== 0) continue;
      const layout = await layoutOf(file.path, file.size, directory, little);
      if (layout.bands === full.bands && layout.samples.type === full.samples.type) levels.push(layout);
    }
    levels.sort((a, b) => (a === full ? -1 : b === full ? 1 : b.width - a.width));
    const info: RasterInfo = {
      file: file.path,
      format: "tiff",
      width: full.width,
      height: full.height,
      bands: full.bands,
      type: full.samples.type,
      bits: full.samples.bits,
      noData: await noDataOf(first, full),
      ...coloursOf(full),
      palette: await paletteOf(first),
      geo: await geoReferenceOf(first),
      overviews: levels.slice(1).map(({ width, height }) => ({ width, height })),
      block: full.block,
    };
    return new TiffRaster(file, info, levels);
  }

  async readWindow(window: Window, overview?: number): Promise<Samples> {
    const level = overview === undefined ? 0 : overview + 1;
    const layout = this.levels[level];
    if (!layout) throw new RangeError(`${this.file.path} has no overview ${overview}`);
    const { bands, block, across, isPlanar, samples } = layout;
    checkWindow(this.file.path, window, layout, bands);
    const out = new arrayTypes[samples.type](window.width * window.height * bands);
    const perPixel = isPlanar ? 1 : bands;
    for (let plane = 0; plane < (isPlanar ? bands : 1); plane++) {
      for (let row = Math.floor(window.y / block.height); row * block.height < window.y + window.height; row++) {
        for (
          let column = Math.floor(window.x / block.width);
          column * block.width < window.x + window.width;
          column++
        ) {
          const index = (plane * layout.down + row) * across + column;
          const values = await this.#block(level, layout, index, row);
          const [left, top] = [column * block.width, row * block.height];
          const [x0, x1] = [Math.max(left, window.x), Math.min(left + block.width, window.x + window.width)];
          const [y0, y1] = [Math.max(top, window.y), Math.min(top + block.height, window.y + window.height)];
          for (let y = y0; y < y1; y++) {
            const from = ((y - top) * block.width + (x0 - left)) * perPixel;
            const to = ((y - window.y) * window.width + (x0 - window.x)) * bands + plane;
            if (!isPlanar) out.set(values.subarray(from, from + (x1 - x0) * bands), to);
            else for (let i = 0; i < x1 - x0; i++) out[to + i * bands] = values[from + i]!;
          }
        }
      }
    }
    return out;
  }

  /** Samples of one strip or tile: `[rows, block.width, bands or 1]`. */
  async #block(level: number, layout: Layout, index: number, row: number): Promise<Samples> {
    const key = `${level}:${index}`;
    const held = this.#cache.get(key);
    if (held) {
      this.#cache.delete(key); // the newest stands last
      this.#cache.set(key, held);
      return held;
    }
    const values = await this.#decode(layout, index, row);
    if (values.byteLength <= CACHE_BYTES) {
      this.#cache.set(key, values);
      this.#cached += values.byteLength;
      for (const [oldest, samples] of this.#cache) {
        if (this.#cached <= CACHE_BYTES) break;
        this.#cache.delete(oldest);
        this.#cached -= samples.byteLength;
      }
    }
    return values;
  }

  async #decode(layout: Layout, index: number, row: number): Promise<Samples> {
    const { block, isTiled, compression, samples, height } = layout;
    const rows = isTiled ? block.height : Math.min(block.height, height - row * block.height);
    const count = rows * block.width * samples.perPixel;
    const [offset, length] = [layout.offsets[index]!, layout.byteCounts[index]!];
    // A sparse file leaves out what holds nothing but no-data.
    if (offset === 0 || length === 0) return new arrayTypes[samples.type](count).fill(this.info.noData ?? 0);
    const what = `${isTiled ? "tile" : "strip"} ${index}`;
    if (!(offset + length <= this.file.size)) {
      throw new DataError(this.file.path, `${what} should stand at byte ${offset}, ${length} long: beyond the end`);
    }
    const data = await this.file.read(offset, length);
    if (layout.reversedBits) for (let i = 0; i < data.length; i++) data[i] = reversedByte(data[i]!);
    if (isJpeg(layout) || isWebp(layout)) return decodeEmbedded(this.file.path, what, data, layout, rows);
    // Of its own buffer, so that wider types can be laid over it.
    const bytes = new Uint8Array(rowBytes(samples, block.width) * rows);
    const written = await decoders[compression]!(data, bytes);
    if (written === null) throw new DataError(this.file.path, `${what} is damaged: it cannot be decompressed`);
    if (written < bytes.length) {
      throw new DataError(this.file.path, `${what} is cut off: it holds ${written} of ${bytes.length} bytes`);
    }
    return samplesOf(bytes, block.width, rows, samples);
  }

  close(): Promise<void> {
    this.#cache.clear();
    this.#cached = 0;
    return this.file.close();
  }
}

function reversedByte(byte: number): number {
  let out = 0;
  for (let bit = 0; bit < 8; bit++) out |= ((byte >> bit) & 1) << (7 - bit);
  return out;
}

/** GDAL_NODATA: a number as text, rounded to what the samples can be. */
async function noDataOf(directory: Directory, { samples }: Layout): Promise<number | null> {
  const text = (await directory.text(42113))?.trim();
  if (!text) return null;
  if (/^[+-]?nan$/i.test(text)) return Number.NaN;
  if (/^[+-]?inf/i.test(text)) return text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const value = Number(text);
  if (Number.isNaN(value)) return null;
  return samples.type === "f32" ? Math.fround(value) : value;
}

/** ColorMap: all reds, then greens, then blues, of 16 bits. */
async function paletteOf(directory: Directory): Promise<Uint8Array | null> {
  const map = await directory.numbers(320);
  if (!map || map.length < 3 || map.length % 3 !== 0 || (await directory.number(262, 1)) !== 3) return null;
  const entries = map.length / 3;
  return Uint8Array.from({ length: map.length }, (_, i) => map[(i % 3) * entries + Math.floor(i / 3)]! >> 8);
}
