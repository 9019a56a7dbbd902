import { DataError } from "../../../errors.js";
import { damaged, decoderOf } from "../decoder.js";
import type { Samples } from "../raster.js";
import { isJpeg, isYCbCr, type Layout } from "./layout.js";

/**
 * A strip or tile that is an image file of its own, JPEG or WebP, decoded by libvips.
 * @param rows That the block has.
 * @throws DataError where it is damaged, or another image than the directory says.
 */
export async function decodeEmbedded(
  file: string,
  what: string,
  data: Uint8Array,
  layout: Layout,
  rows: number,
): Promise<Samples> {
  const { samples, block } = layout;
  const bands = samples.perPixel;
  if (samples.type !== "u8" || samples.bits !== 8 || samples.predictor !== 1 || bands === 2 || bands > 4) {
    throw new DataError(file, `JPEG and WebP blocks of ${bands} bands, ${samples.bits} bits, are not supported`);
  }
  try {
    const bytes = isJpeg(layout) ? wholeJpeg(data, layout.jpegTables, isYCbCr(layout), bands) : data;
    const image = await decoderOf(file, bytes);
    const { width, height, channels, space } = await image.metadata();
    // The image may be padded to whole rows of 8 or 16, or carry an alpha channel that says nothing.
    if (width !== block.width || height < rows || height > block.height + 16 || channels < bands) {
      throw new Error(`holds ${width} x ${height} x ${channels}, not ${block.width} x ${rows} x ${bands}`);
    }
    // Four channels of a JPEG count as CMYK, which libvips turns into its negative: that is undone below.
    const colours = bands === 1 ? "b-w" : space === "cmyk" ? "cmyk" : "srgb";
    const shaped = image.pipelineColourspace(colours).toColourspace(colours);
    const { data: pixels, info } = await (bands < channels ? shaped.removeAlpha() : shaped)
      .timeout({ seconds: 60 })
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== bands) throw new Error(`decoded to ${info.channels} channels, not ${bands}`);
    const wanted = Uint8Array.from(pixels.subarray(0, rows * block.width * bands));
    return colours === "cmyk" ? wanted.map((value) => 255 - value) : wanted;
  } catch (cause) {
    throw new DataError(file, `${what} ${damaged(file, cause).reason}`, { cause });
  }
}

/**
 * An abbreviated JPEG stream with its tables (Adobe's TIFF Technical Note 2), and a marker (Adobe's APP14) that says what
 * TIFF's photometric tag said: three channels are YCbCr (1), or the bands themselves (0).
 */
function wholeJpeg(stream: Uint8Array, tables: Uint8Array | null, isYCbCr: boolean, components: number): Uint8Array {
  const marker = [0xff, 0xee, 0, 14, 0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, isYCbCr ? 1 : 0];
  const said = components >= 3 ? Uint8Array.from(marker) : new Uint8Array();
  const hasEnds = tables && tables.length > 4 && tables[0] === 0xff && tables[1] === 0xd8;
  const inner = hasEnds ? tables.subarray(2, tables.length - 2) : new Uint8Array();
  return Buffer.concat([stream.subarray(0, 2), said, inner, stream.subarray(2)]);
}
