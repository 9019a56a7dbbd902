import type { Sharp, SharpOptions } from "sharp";
import { DataError } from "../../errors.js";

/** Larger images are refused before they are decoded: a 746 kB PNG can claim 16,000 x 16,000 pixels. */
export const MAX_PIXELS = 64 * 2 ** 20;

type Decoder = (input: Uint8Array, options: SharpOptions) => Sharp;
let decoder: Promise<Decoder> | undefined;

/**
 * An image for libvips to decode, within tight limits. `sharp` is an optional peer: only those who read PNG and JPEG need it.
 * @throws DataError where sharp is not installed.
 */
export async function decoderOf(file: string, bytes: Uint8Array): Promise<Sharp> {
  decoder ??= import("sharp").then((module) => module.default);
  try {
    const sharp = await decoder;
    return sharp(bytes, { limitInputPixels: MAX_PIXELS, failOn: "warning", sequentialRead: true, pages: 1 });
  } catch (cause) {
    decoder = undefined;
    throw new DataError(file, "reading images needs the package sharp: npm install sharp", { cause });
  }
}

/** One line of what libvips says of a damaged image. */
export function damaged(file: string, cause: unknown): DataError {
  if (cause instanceof DataError) return cause;
  const text = cause instanceof Error ? cause.message.trim().replace(/\s*\n\s*/g, "; ") : String(cause);
  return new DataError(file, `cannot be decoded: ${text}`, { cause });
}
