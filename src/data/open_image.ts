import type { Sharp } from "sharp";
import { formatOf, inspect, readRegularFile } from "./image.js";
import type { Raster, RasterInfo, Samples, SampleType, Window } from "./raster/raster.js";

const TYPES: Readonly<Record<string, SampleType>> = {
  uchar: "u8",
  char: "i8",
  ushort: "u16",
  short: "i16",
  uint: "u32",
  int: "i32",
  float: "f32",
  double: "f64",
};

/** Opens an image for the tools that look at whole files; stands in for the bounded TIFF reader. */
export async function openImage(file: string): Promise<Raster> {
  const bytes = await readRegularFile(file);
  const format = formatOf(file, bytes);
  const { image, meta } = await inspect(file, bytes);
  const type = TYPES[meta.depth ?? ""] ?? "u8";
  const colours = meta.channels - (meta.hasAlpha ? 1 : 0);
  const info: RasterInfo = {
    file,
    format,
    width: meta.width,
    height: meta.height,
    bands: meta.channels,
    type,
    bits: meta.bitsPerSample ?? 8,
    noData: null,
    alphaBand: meta.hasAlpha ? meta.channels - 1 : null,
    colour: meta.isPalette ? "palette" : colours === 1 ? "grey" : colours === 3 ? "rgb" : "other",
    palette: null,
    geo: null,
    overviews: [],
    block: { width: meta.width, height: 1 },
  };
  let decoded: Promise<Samples> | undefined;
  return {
    info,
    async readWindow({ x, y, width, height }: Window) {
      decoded ??= decodeAll(image, info, meta.space ?? "srgb");
      const all = await decoded;
      const out = all.slice(0, width * height * info.bands);
      for (let row = 0; row < height; row++) {
        const start = ((y + row) * info.width + x) * info.bands;
        out.set(all.subarray(start, start + width * info.bands), row * width * info.bands);
      }
      return out;
    },
    close: async () => {},
  };
}

async function decodeAll(image: Sharp, info: RasterInfo, space: string): Promise<Samples> {
  const depth = Object.entries(TYPES).find(([, type]) => type === info.type)![0];
  const { data } = await image
    .toColourspace(space)
    .raw({ depth: depth as "uchar" })
    .toBuffer({ resolveWithObject: true });
  const { buffer, byteOffset, byteLength } = data;
  if (info.type === "u16") return new Uint16Array(buffer, byteOffset, byteLength / 2);
  if (info.type === "f32") return new Float32Array(buffer, byteOffset, byteLength / 4);
  return new Uint8Array(buffer, byteOffset, byteLength);
}
