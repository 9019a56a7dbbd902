import { DataError } from "../../../errors.js";
import type { RasterInfo, SampleType } from "../raster.js";
import { compressionName, decoders } from "./decompress.js";
import type { Directory } from "./directory.js";
import { rowBytes, type SampleLayout } from "./samples.js";

const [JPEG, WEBP] = [7, 50001];
const MAX_SIDE = 2 ** 31 - 1;
/** More bands than any sensor has. */
const MAX_BANDS = 1024;
/** Of one decoded strip or tile: a whole image of 64 megapixels that was stored as one strip still fits. */
const MAX_BLOCK_BYTES = 256 * 2 ** 20;

/** Photometric interpretations of TIFF 6.0. */
const [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR] = [0, 1, 2, 3, 5, 6];

/** How the pixels of one directory are stored, checked against the size of the file. */
export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly bands: number;
  readonly samples: SampleLayout;
  readonly compression: number;
  readonly photometric: number;
  /** Size of a strip or tile; the last strip may have fewer rows. */
  readonly block: { readonly width: number; readonly height: number };
  readonly isTiled: boolean;
  readonly across: number;
  readonly down: number;
  /** Each band has blocks of its own, one band after the other. */
  readonly isPlanar: boolean;
  readonly offsets: Float64Array;
  readonly byteCounts: Float64Array;
  /** The least significant bit of a byte comes first. */
  readonly reversedBits: boolean;
  readonly jpegTables: Uint8Array | null;
  /** What the bands beyond the colours are (TIFF 6.0, ExtraSamples): 1 and 2 are alpha. */
  readonly extras: readonly number[];
}

/** @throws DataError where the directory describes no raster that can be read, or one that the file cannot hold. */
export async function layoutOf(file: string, fileSize: number, directory: Directory, little: boolean): Promise<Layout> {
  const fail = (reason: string): never => {
    throw new DataError(file, reason);
  };
  const whole = async (tag: number, name: string, missing: number, max: number): Promise<number> => {
    const value = await directory.number(tag, missing);
    return Number.isInteger(value) && value >= 1 && value <= max ? value : fail(`its ${name} is ${value}`);
  };
  const width = await whole(256, "width", 0, MAX_SIDE);
  const height = await whole(257, "height", 0, MAX_SIDE);
  const bands = await whole(277, "number of bands", 1, MAX_BANDS);
  const compression = await directory.number(259, 1);
  if (!(compression in decoders) && compression !== JPEG && compression !== WEBP) {
    return fail(`its compression, ${compressionName(compression)}, is not supported: convert it to deflate`);
  }
  const photometric = await directory.number(262, bands >= 3 ? RGB : BLACK_IS_ZERO);
  if (photometric === CMYK) return fail("CMYK images are not supported: convert it to RGB");
  if (photometric === YCBCR && compression !== JPEG) return fail("YCbCr is supported only as JPEG: convert it to RGB");
  const isPlanar = bands > 1 && (await directory.number(284, 1)) === 2;
  const samples = await sampleLayoutOf(file, directory, bands, isPlanar, little);

  const isTiled = directory.has(322);
  const block = isTiled
    ? { width: await whole(322, "tile width", 0, MAX_SIDE), height: await whole(323, "tile height", 0, MAX_SIDE) }
    : { width, height: Math.min(height, await whole(278, "number of rows a strip", MAX_SIDE, 2 ** 32)) };
  if (rowBytes(samples, block.width) * block.height > MAX_BLOCK_BYTES) {
    const size = `${block.width} x ${block.height} pixels`;
    return fail(`one ${isTiled ? "tile" : "strip"} holds ${size}, more than ${MAX_BLOCK_BYTES / 2 ** 20} MiB`);
  }
  const [across, down] = [Math.ceil(width / block.width), Math.ceil(height / block.height)];
  const blocks = across * down * (isPlanar ? bands : 1);
  const offsets = (await directory.numbers(isTiled ? 324 : 273)) ?? fail("it does not say where its pixels stand");
  const counts = await directory.numbers(isTiled ? 325 : 279);
  // Old writers leave the count of an uncompressed image's only strip out.
  const alone = blocks === 1 && compression === 1 ? Float64Array.of(fileSize - offsets[0]!) : null;
  const byteCounts = counts ?? alone ?? fail("it does not say how long its blocks are");
  if (offsets.length < blocks || byteCounts.length < blocks) {
    return fail(`${blocks} strips or tiles are needed, ${Math.min(offsets.length, byteCounts.length)} are there`);
  }
  const extras = (await directory.numbers(338)) ?? new Float64Array();
  return {
    ...{ width, height, bands, samples, compression, photometric, block, isTiled, across, down, isPlanar },
    ...{ offsets, byteCounts, extras: [...extras.slice(0, bands)] },
    reversedBits: (await directory.number(266, 1)) === 2,
    jpegTables: compression === JPEG ? ((await directory.raw(347))?.bytes ?? null) : null,
  };
}

async function sampleLayoutOf(
  file: string,
  directory: Directory,
  bands: number,
  isPlanar: boolean,
  little: boolean,
): Promise<SampleLayout> {
  const same = async (tag: number, what: string, missing: number): Promise<number> => {
    const values = (await directory.numbers(tag)) ?? Float64Array.of(missing);
    const first = values[0] ?? missing;
    if (values.slice(0, bands).some((v) => v !== first)) throw new DataError(file, `its bands differ in ${what}`);
    return first;
  };
  const bits = await same(258, "their number of bits", 1);
  const format = await same(339, "their sample format", 1);
  const type = typeOf(bits, format);
  if (!type) throw new DataError(file, `samples of ${bits} bits in format ${format} are not supported`);
  const predictor = await directory.number(317, 1);
  const isFloat = type === "f32" || type === "f64";
  if (![1, 2, 3].includes(predictor) || (predictor === 3 && !isFloat) || (predictor === 2 && bits % 8 !== 0)) {
    throw new DataError(file, `predictor ${predictor} of ${bits}-bit samples is not supported`);
  }
  return { type, bits, perPixel: isPlanar ? 1 : bands, little, predictor };
}

/** SampleFormat: 1 unsigned, 2 signed, 3 floating point, 4 undefined, which is read as unsigned. */
function typeOf(bits: number, format: number): SampleType | null {
  const unsigned: Readonly<Record<number, SampleType>> = {
    ...{ 1: "u8", 2: "u8", 4: "u8", 8: "u8", 12: "u16", 16: "u16", 32: "u32" },
  };
  const signed: Readonly<Record<number, SampleType>> = { 8: "i8", 16: "i16", 32: "i32" };
  const floating: Readonly<Record<number, SampleType>> = { 32: "f32", 64: "f64" };
  return { 1: unsigned, 2: signed, 3: floating, 4: unsigned }[format]?.[bits] ?? null;
}

/** What the bands are. */
export function coloursOf({ photometric, bands, extras }: Layout): Pick<RasterInfo, "colour" | "alphaBand"> {
  const first = bands - extras.length;
  const alpha = extras.findIndex((kind) => kind === 1 || kind === 2);
  const alphaBand = alpha < 0 ? null : first + alpha;
  switch (photometric) {
    case WHITE_IS_ZERO:
    case BLACK_IS_ZERO:
      return { colour: first === 1 ? "grey" : "other", alphaBand };
    case RGB:
    case YCBCR:
      return { colour: first === 3 ? "rgb" : "other", alphaBand };
    case PALETTE:
      return { colour: "palette", alphaBand };
    default:
      return { colour: "other", alphaBand };
  }
}

export const isJpeg = ({ compression }: Layout): boolean => compression === JPEG;
export const isWebp = ({ compression }: Layout): boolean => compression === WEBP;
/** JPEG blocks hold YCbCr; else their channels are the bands themselves. */
export const isYCbCr = ({ photometric }: Layout): boolean => photometric === YCBCR;
