import type { Tile, TileSamples } from "../data/dataset.js";
import { tileBands, tileType, toTile } from "../data/image.js";
import { displayed } from "../data/picture.js";
import { encodePNG } from "../data/png.js";
import type { Raster } from "../data/raster/raster.js";
import { classColour } from "./report/pictures.js";
import { NO_CLASS } from "./scene_map.js";

/** Longer side of an overlay, pixels: it is for looking at. */
const LONGER_SIDE = 2048;
/** Of the class colour over the image. */
const OPACITY = 0.5;

const arrays = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array } as const;

/**
 * A scene with its class map painted over it, reduced to 2048 pixels a side at most, as PNG. The first class, the
 * background as a rule, is left clear. Reads one row at a time.
 */
export async function overlayOf(scene: Raster, map: Raster): Promise<Uint8Array> {
  const { info } = scene;
  const factor = Math.min(1, LONGER_SIDE / Math.max(info.width, info.height));
  const [width, height] = [info.width, info.height].map((size) => Math.max(1, Math.round(size * factor))) as [
    number,
    number,
  ];
  const bands = tileBands(info);
  const image: TileSamples = new arrays[tileType(info.type)](width * height * bands);
  const valid = new Uint8Array(width * height).fill(1);
  const labels = new Uint8Array(width * height);
  const centre = (i: number, small: number, large: number) => Math.floor(((i + 0.5) * large) / small);
  for (let y = 0; y < height; y++) {
    const window = { x: 0, y: centre(y, height, info.height), width: info.width, height: 1 };
    const row = toTile(info, await scene.readWindow(window), 1, info.width);
    const classes = await map.readWindow(window);
    for (let x = 0; x < width; x++) {
      const from = centre(x, width, info.width);
      const to = y * width + x;
      image.set(row.image.subarray(from * bands, (from + 1) * bands), to * bands);
      valid[to] = row.valid ? row.valid[from]! : 1;
      labels[to] = classes[from]!;
    }
  }
  const small: Tile = { name: info.file, height, width, bands, image, valid, label: null };
  const pixels = displayed(small).slice();
  for (let p = 0; p < width * height; p++) {
    const label = labels[p]!;
    if (label === 0 || label === NO_CLASS) continue;
    classColour(label).forEach((value, c) => {
      pixels[p * 3 + c] = Math.round(pixels[p * 3 + c]! * (1 - OPACITY) + value * OPACITY);
    });
  }
  return encodePNG(pixels, height, width);
}
