import { DataError } from "../../errors.js";
import type { Window } from "./raster.js";

/** Samples that one call hands out: 64 megapixels of four bands. */
const MAX_SAMPLES = 256 * 2 ** 20;

/** @throws RangeError where the window leaves the raster or is empty; DataError where it holds too many samples. */
export function checkWindow(
  file: string,
  { x, y, width, height }: Window,
  raster: { readonly width: number; readonly height: number },
  bands: number,
): void {
  const fits = [x, y, width, height].every(Number.isInteger) && x >= 0 && y >= 0 && width >= 1 && height >= 1;
  if (!fits || x + width > raster.width || y + height > raster.height) {
    throw new RangeError(`${file} is ${raster.width} x ${raster.height}: no window ${width} x ${height} at ${x}, ${y}`);
  }
  if (width * height * bands > MAX_SAMPLES) {
    throw new DataError(file, `a window of ${width} x ${height} x ${bands} is too large to be read at once`);
  }
}
