import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";
import type { Metadata, Sharp, SharpOptions } from "sharp";
import { DataError } from "../errors.js";

/** Larger tiles are refused before they are decoded: a 746 kB PNG can claim 16,000 x 16,000 pixels. */
const MAX_PIXELS = 64 * 2 ** 20;
/** Compressed bytes of one tile. */
const MAX_FILE_BYTES = 256 * 2 ** 20;

type Format = "png" | "jpeg" | "tiff";

export interface Pixels {
  readonly height: number;
  readonly width: number;
  readonly data: Uint8Array; // [height, width, channels]
}

type Decoder = (input: Uint8Array, options: SharpOptions) => Sharp;
let decoder: Promise<Decoder> | undefined;

/** `sharp` is an optional peer: only those who read image files need it. */
async function loadDecoder(file: string): Promise<Decoder> {
  decoder ??= import("sharp").then((module) => module.default);
  try {
    return await decoder;
  } catch (cause) {
    decoder = undefined;
    throw new DataError(file, "reading images needs the package sharp: npm install sharp", { cause });
  }
}

/**
 * Decodes an image tile to 8-bit RGB as stored: EXIF rotation is not applied, as labels carry none. Grey becomes three equal
 * channels, palettes their colours, alpha is dropped.
 * @throws DataError where the file is not a regular PNG, JPEG or TIFF file, is damaged, larger than 64 megapixels, 16-bit, float, CMYK or multi-band.
 */
export async function readImage(file: string): Promise<Pixels> {
  const bytes = await readRegularFile(file);
  formatOf(file, bytes);
  const { image, meta } = await inspect(file, bytes);
  const colours = meta.channels - (meta.hasAlpha ? 1 : 0);
  if (meta.depth !== "uchar" || (meta.bitsPerSample ?? 8) > 8) {
    throw new DataError(file, `images must have 8 bits a channel, this one has ${meta.depth}`);
  }
  if (meta.space === "cmyk" || (colours !== 1 && colours !== 3)) {
    throw new DataError(file, `images must be RGB or grey, this one is ${meta.space} with ${meta.channels} channels`);
  }
  const { data, height, width } = await decode(file, image.removeAlpha().toColourspace("srgb"), 3, meta);
  return { data, height, width };
}

/**
 * Decodes a label tile: one 8-bit channel whose values are class indices below `classes`, or `ignoreIndex`.
 * @throws DataError as `readImage`, and where the file is a JPEG, a palette or colour image, or holds another value.
 */
export async function readLabel(file: string, classes: number, ignoreIndex: number): Promise<Pixels> {
  const bytes = await readRegularFile(file);
  if (formatOf(file, bytes) === "jpeg")
    throw new DataError(file, "labels must be PNG or TIFF: JPEG changes the indices");
  const { image, meta } = await inspect(file, bytes);
  if (meta.channels !== 1 || meta.depth !== "uchar" || meta.isPalette || (meta.bitsPerSample ?? 8) !== 8) {
    const found = `${meta.isPalette ? "palette, " : ""}${meta.channels} channels of ${meta.bitsPerSample ?? meta.depth} bits`;
    throw new DataError(file, `labels must be one 8-bit channel of class indices, this one has ${found}`);
  }
  const pixels = await decode(file, image.toColourspace("b-w"), 1, meta);
  for (let i = 0; i < pixels.data.length; i++) {
    const value = pixels.data[i]!;
    if (value >= classes && value !== ignoreIndex) {
      const at = `row ${Math.floor(i / pixels.width)}, column ${i % pixels.width}`;
      throw new DataError(
        file,
        `label ${value} at ${at} is neither a class (0 … ${classes - 1}) nor ${ignoreIndex} (ignore)`,
      );
    }
  }
  return pixels;
}

/** The whole of a regular file. A FIFO or device would block for ever, a link could lead out of the folder. */
export async function readRegularFile(file: string): Promise<Uint8Array> {
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    if (!(await lstat(file)).isFile()) throw new DataError(file, "not a regular file");
    handle = await open(file, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
    const stat = await handle.stat(); // of what was opened: the name may mean another file by now
    if (!stat.isFile()) throw new DataError(file, "not a regular file");
    if (stat.size === 0) throw new DataError(file, "the file is empty");
    if (stat.size > MAX_FILE_BYTES) throw new DataError(file, `larger than ${MAX_FILE_BYTES / 2 ** 20} MiB`);
    return await handle.readFile();
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(file, `cannot be read (${cause instanceof Error ? cause.message : String(cause)})`, { cause });
  } finally {
    await handle?.close();
  }
}

/** By content, never by name: nothing but these three formats reaches a decoder. */
export function formatOf(file: string, b: Uint8Array): Format {
  const starts = (...magic: number[]) => magic.every((value, i) => b[i] === value);
  if (starts(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) {
    requireEnd(file, b);
    return "png";
  }
  if (starts(0xff, 0xd8, 0xff)) return "jpeg";
  if (starts(0x49, 0x49, 0x2a, 0) || starts(0x4d, 0x4d, 0, 0x2a)) return "tiff";
  if (starts(0x49, 0x49, 0x2b, 0) || starts(0x4d, 0x4d, 0, 0x2b)) return "tiff"; // BigTIFF
  throw new DataError(file, "neither PNG, JPEG nor TIFF, whatever its name says");
}

/** libpng accepts a file that was cut off before its end chunk. */
function requireEnd(file: string, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) === 0x49454e44) return; // IEND
  }
  throw new DataError(file, "the PNG is cut off: it has no end chunk");
}

export async function inspect(file: string, bytes: Uint8Array): Promise<{ image: Sharp; meta: Metadata }> {
  const sharp = await loadDecoder(file);
  try {
    const image = sharp(bytes, { limitInputPixels: MAX_PIXELS, failOn: "warning", sequentialRead: true, pages: 1 });
    const meta = await image.metadata();
    if (!meta.width || !meta.height || meta.width * meta.height > MAX_PIXELS)
      throw new Error("more than 64 megapixels");
    return { image, meta };
  } catch (cause) {
    throw damaged(file, cause);
  }
}

async function decode(file: string, image: Sharp, channels: number, meta: Metadata): Promise<Pixels> {
  try {
    const { data, info } = await image
      .timeout({ seconds: 60 })
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== channels || info.width !== meta.width || info.height !== meta.height) {
      throw new Error(`decoded to ${info.width} x ${info.height} x ${info.channels}, which its header does not say`);
    }
    return { height: info.height, width: info.width, data };
  } catch (cause) {
    throw damaged(file, cause);
  }
}

function damaged(file: string, cause: unknown): DataError {
  const text = cause instanceof Error ? cause.message.trim().replace(/\s*\n\s*/g, "; ") : String(cause);
  return new DataError(file, `cannot be decoded: ${text}`, { cause });
}
