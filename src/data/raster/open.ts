import { extname } from "node:path";
import { DataError } from "../../errors.js";
import { EncodedRaster } from "./encoded_raster.js";
import type { Raster, RasterInfo } from "./raster.js";
import { RegularFile } from "./regular_file.js";
import { TiffRaster } from "./tiff/tiff_raster.js";

type Format = RasterInfo["format"];

const EXTENSIONS: Readonly<Record<string, Format>> = {
  ...{ ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".tif": "tiff", ".tiff": "tiff" },
};
const NAMES: Readonly<Record<Format, string>> = { png: "PNG", jpeg: "JPEG", tiff: "TIFF" };

/**
 * Opens a PNG, JPEG or TIFF (GeoTIFF, BigTIFF, COG), by its content: nothing else reaches a decoder.
 * @throws DataError where the file is not regular, is none of these or another than its name says, is damaged, or holds
 * what cannot be read exactly.
 */
export async function openRaster(path: string): Promise<Raster> {
  const file = await RegularFile.open(path);
  try {
    const format = formatOf(await file.read(0, Math.min(8, file.size)));
    if (!format) throw new DataError(path, "neither PNG, JPEG nor TIFF, whatever its name says");
    const named = EXTENSIONS[extname(path).toLowerCase()];
    if (named && named !== format) {
      throw new DataError(path, `its name says ${NAMES[named]}, but it is a ${NAMES[format]}: rename it`);
    }
    if (format === "tiff") return await TiffRaster.open(file);
    const raster = await EncodedRaster.open(file, format);
    await file.close();
    return raster;
  } catch (error) {
    await file.close();
    throw error;
  }
}

function formatOf(b: Uint8Array): Format | null {
  const starts = (...magic: number[]) => magic.every((value, i) => b[i] === value);
  if (starts(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return "png";
  if (starts(0xff, 0xd8, 0xff)) return "jpeg";
  // 42: TIFF, 43: BigTIFF
  for (const version of [42, 43]) {
    if (starts(0x49, 0x49, version, 0) || starts(0x4d, 0x4d, 0, version)) return "tiff";
  }
  return null;
}
