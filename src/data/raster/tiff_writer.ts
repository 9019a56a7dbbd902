import { type FileHandle, open, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { deflate } from "node:zlib";
import { placeOf, syncFolder, takePlace, writeAll } from "../../checkpoint/atomic.js";
import { ArgumentError } from "../../errors.js";
import type { GeoReference, RawTag } from "./raster.js";
import { type BandNote, encodeMetadata, METADATA_TAG } from "./tiff/metadata.js";
import { ascii, encodeDirectory, longs, shorts } from "./tiff/tags.js";

/** Side of a tile, pixels. */
export const TILE = 256;
/** Above this much data offsets may pass 32 bits: deflate hardly ever makes data longer, but it can. */
const BIG_TIFF_BYTES = 3.9 * 2 ** 30;

const compress = promisify(deflate);

/** What a GeoTIFF is to be. */
export interface TiffSpec {
  readonly width: number;
  readonly height: number;
  readonly bands: number;
  readonly type: "u8" | "u16" | "f32";
  readonly geo: GeoReference | null;
  /** The first three bands are red, green and blue. */
  readonly rgb: boolean;
  /** Value of pixels that say nothing; null: there are none. */
  readonly noData: number | null;
  /** Colours of the values of one 8-bit band; null: the values are grey levels. */
  readonly palette: Uint8Array | null; // [256 or fewer, 3]
  /** For GDAL: `gdalinfo` lists it. */
  readonly metadata: ReadonlyMap<string, string>;
  /** By band; may be shorter than their number. */
  readonly notes: readonly BandNote[];
}

type TiffSamples = Uint8Array | Uint16Array | Float32Array;

/** A row of tiles that is safely on the disk. */
interface Finished {
  readonly offsets: readonly number[];
  readonly counts: readonly number[];
  /** Length of the scratch file with it. */
  readonly end: number;
}

/**
 * Writes a tiled, deflated GeoTIFF row by row, in memory for one row of tiles. It grows in a scratch file beside the target, and a
 * journal says which rows of tiles are complete: after an interruption, `open` with the same key goes on behind them.
 * Only `finish` gives the target its name, so that nothing half-written ever bears it.
 */
export class TiffWriter {
  readonly #samplesARow: number;
  readonly #big: boolean;
  /** Of the row of tiles in progress. */
  #pending: TiffSamples;
  #pendingRows = 0;

  private constructor(
    readonly path: string,
    private readonly spec: TiffSpec,
    private readonly scratch: FileHandle,
    private readonly journal: FileHandle,
    private readonly finished: Finished[],
  ) {
    this.#samplesARow = spec.width * spec.bands;
    this.#big = isBig(spec);
    this.#pending = new ARRAYS[spec.type](TILE * this.#samplesARow);
  }

  /**
   * @param key What decides the content: an unfinished file of another key is started afresh.
   * @throws The system's error; DataError where the path is a folder, pipe or device.
   */
  static async open(path: string, spec: TiffSpec, key: string): Promise<TiffWriter> {
    if (spec.palette && (spec.bands !== 1 || spec.type !== "u8" || spec.palette.length > 768)) {
      throw new ArgumentError("TiffWriter", "colours are for one 8-bit band, 256 at most");
    }
    const { scratch, journal } = await namesOf(path);
    const head = JSON.stringify({ key, ...withoutGeo(spec) });
    const finished = await readJournal(journal, head);
    const start = finished.length === 0;
    const data = await open(scratch, start ? "w+" : "r+").catch(() => open(scratch, "w+"));
    const length = (await data.stat()).size;
    // The journal is written behind the data: a row that it names is there, unless somebody meddled.
    while (finished.length > 0 && finished.at(-1)!.end > length) finished.pop();
    await data.truncate(finished.at(-1)?.end ?? 0);
    if (finished.length === 0) await writeAll(data, headerOf(0, isBig(spec)), 0);
    const log = await open(journal, "w");
    await writeAll(
      log,
      new TextEncoder().encode(`${[head, ...finished.map((row) => JSON.stringify(row))].join("\n")}\n`),
    );
    await log.sync();
    return new TiffWriter(path, spec, data, log, finished);
  }

  /** Rows of pixels that are safely on the disk, and need not be written again. */
  get rows(): number {
    return Math.min(this.finished.length * TILE, this.spec.height);
  }

  /** Forgets what is behind a row, so that files written side by side go on from the same one. */
  async rewind(rows: number): Promise<void> {
    const keep = Math.floor(rows / TILE);
    if (keep >= this.finished.length) return;
    this.finished.length = keep;
    this.#pendingRows = 0;
    await this.scratch.truncate(this.finished.at(-1)?.end ?? headerOf(0, this.#big).length);
  }

  /** The next rows of pixels: `[rows, width, bands]`. */
  async write(samples: TiffSamples): Promise<void> {
    const { height } = this.spec;
    const total = samples.length / this.#samplesARow;
    const at = this.finished.length * TILE + this.#pendingRows;
    if (!Number.isInteger(total) || at + total > height) {
      throw new ArgumentError("TiffWriter.write", `${samples.length} samples are no rows of ${this.path}`);
    }
    for (let row = 0; row < total; ) {
      const take = Math.min(total - row, TILE - this.#pendingRows);
      const part = samples.subarray(row * this.#samplesARow, (row + take) * this.#samplesARow);
      this.#pending.set(part, this.#pendingRows * this.#samplesARow);
      this.#pendingRows += take;
      row += take;
      const isLast = this.finished.length * TILE + this.#pendingRows === height;
      if (this.#pendingRows === TILE || isLast) await this.#flush();
    }
  }

  /** Compresses the row of tiles, makes it durable, and only then says so in the journal. */
  async #flush(): Promise<void> {
    const { width } = this.spec;
    const across = Math.ceil(width / TILE);
    const offsets: number[] = [];
    const counts: number[] = [];
    let end = this.finished.at(-1)?.end ?? headerOf(0, this.#big).length;
    // A few at once, in the threads of Node's pool; in order, so that the bytes are always the same.
    for (let start = 0; start < across; start += 8) {
      const columns = Array.from({ length: Math.min(8, across - start) }, (_, i) => start + i);
      const packed = await Promise.all(columns.map((column) => compress(this.#tile(column), { level: 6 })));
      for (const bytes of packed) {
        offsets.push(end);
        counts.push(bytes.length);
        await writeAll(this.scratch, bytes, end);
        end += bytes.length;
      }
    }
    await this.scratch.datasync();
    const row: Finished = { offsets, counts, end };
    await writeAll(this.journal, new TextEncoder().encode(`${JSON.stringify(row)}\n`));
    await this.journal.datasync();
    this.finished.push(row);
    this.#pendingRows = 0;
  }

  /** Bytes of one tile, padded with zeros, as differences along its rows where that packs better. */
  #tile(column: number): Uint8Array {
    const { width, bands, type } = this.spec;
    const tile = new ARRAYS[type](TILE * TILE * bands);
    const left = column * TILE * bands;
    const length = Math.min(TILE, width - column * TILE) * bands;
    for (let y = 0; y < this.#pendingRows; y++) {
      const from = y * this.#samplesARow + left;
      tile.set(this.#pending.subarray(from, from + length), y * TILE * bands);
    }
    if (predictorOf(this.spec) === 2) {
      const row = TILE * bands;
      for (let start = 0; start < tile.length; start += row) {
        for (let i = start + row - 1; i >= start + bands; i--) tile[i] = tile[i]! - tile[i - bands]!;
      }
    }
    return new Uint8Array(tile.buffer);
  }

  /** Writes the directory, makes all durable and gives the file its name. @throws ArgumentError where rows are missing. */
  async finish(): Promise<void> {
    if (this.rows < this.spec.height) {
      throw new ArgumentError("TiffWriter.finish", `${this.path}: ${this.rows} of ${this.spec.height} rows are there`);
    }
    const end = this.finished.at(-1)!.end;
    const at = end + (end & 1);
    await writeAll(this.scratch, encodeDirectory(this.#tags(), at, this.#big), at);
    await writeAll(this.scratch, headerOf(at, this.#big), 0);
    const { scratch, journal, place } = await namesOf(this.path);
    await this.journal.close();
    await takePlace(this.scratch, scratch, place);
    await rm(journal, { force: true });
    await syncFolder(place.folder);
  }

  /** Leaves scratch file and journal for a later `open` to go on from. */
  async close(): Promise<void> {
    await this.scratch.close();
    await this.journal.close();
  }

  #tags(): ReadonlyMap<number, RawTag> {
    const { width, height, bands, type, geo, rgb, noData, palette, metadata, notes } = this.spec;
    const offsets = this.finished.flatMap((row) => row.offsets);
    const counts = this.finished.flatMap((row) => row.counts);
    const tags = new Map<number, RawTag>([
      [256, longs([width])],
      [257, longs([height])],
      [258, shorts(...Array(bands).fill(BITS[type]))],
      [259, shorts(8)], // deflate
      [262, shorts(palette ? 3 : rgb ? 2 : 1)],
      [277, shorts(bands)],
      [284, shorts(1)],
      [305, ascii("lacuna")],
      [317, shorts(predictorOf(this.spec))],
      [322, longs([TILE])],
      [323, longs([TILE])],
      [324, longs(offsets, this.#big)],
      [325, longs(counts, this.#big)],
      [339, shorts(...Array(bands).fill(type === "f32" ? 3 : 1))],
      ...(geo?.tags ?? []),
    ]);
    const colours = rgb ? 3 : 1;
    if (bands > colours) tags.set(338, shorts(...Array(bands - colours).fill(0)));
    if (palette) tags.set(320, colourMap(palette));
    if (noData !== null) tags.set(42113, ascii(Number.isNaN(noData) ? "nan" : String(noData)));
    if (metadata.size > 0 || notes.length > 0) tags.set(METADATA_TAG, ascii(encodeMetadata(metadata, notes)));
    return tags;
  }
}

const ARRAYS = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array } as const;
const BITS = { u8: 8, u16: 16, f32: 32 } as const;

const isBig = ({ width, height, bands, type }: TiffSpec): boolean =>
  width * height * bands * (BITS[type] / 8) > BIG_TIFF_BYTES;

/** Differences of class indices mean nothing, and those of floats are no integers. */
const predictorOf = ({ type, palette }: TiffSpec): 1 | 2 => (type === "f32" || palette ? 1 : 2);

/** Little-endian: the version, and where the directory stands. */
function headerOf(directory: number, big: boolean): Uint8Array {
  const bytes = new Uint8Array(big ? 16 : 8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x4949, true);
  view.setUint16(2, big ? 43 : 42, true);
  if (!big) view.setUint32(4, directory, true);
  if (big) view.setUint16(4, 8, true);
  if (big) view.setBigUint64(8, BigInt(directory), true);
  return bytes;
}

/** Reds, greens and blues of 256 values, of 16 bits. */
function colourMap(palette: Uint8Array): RawTag {
  const at = (channel: number) => Array.from({ length: 256 }, (_, i) => (palette[i * 3 + channel] ?? 0) * 257);
  return shorts(...at(0), ...at(1), ...at(2));
}

/** Scratch file and journal stand beside the target, so that a rename is enough. */
async function namesOf(path: string) {
  const place = await placeOf(path);
  const name = basename(place.target);
  return {
    place,
    scratch: join(place.folder, `.${name}.lacuna-part`),
    journal: join(place.folder, `.${name}.lacuna-journal`),
  };
}

const withoutGeo = ({ width, height, bands, type, noData }: TiffSpec) => ({ width, height, bands, type, noData });

/** Complete rows that the journal of the same head names; a last line that was cut off counts for nothing. */
async function readJournal(path: string, head: string): Promise<Finished[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  const [first, ...lines] = text.split("\n");
  if (first !== head) return [];
  const finished: Finished[] = [];
  for (const line of lines.slice(0, -1)) {
    try {
      finished.push(JSON.parse(line) as Finished); // our own, behind an equal head
    } catch {
      break;
    }
  }
  return finished;
}
