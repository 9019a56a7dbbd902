import type { GeoReference, RawTag } from "../raster.js";
import type { Directory } from "./directory.js";
import { doubles } from "./tags.js";

const [PIXEL_SCALE, TIE_POINTS, MATRIX, KEYS] = [33550, 33922, 34264, 34735];
/** All georeferencing tags: those above, and the keys' doubles and texts. */
export const GEO_TAGS = [PIXEL_SCALE, TIE_POINTS, MATRIX, KEYS, 34736, 34737] as const;
/** GeoTIFF 1.1's keys, and the code for "user-defined". */
const [RASTER_TYPE, GEOGRAPHIC, PROJECTED, USER_DEFINED] = [1025, 2048, 3072, 32767];
const PIXEL_IS_POINT = 2;

/** Georeference of an image (OGC GeoTIFF 1.1), as GDAL understands it; null where the directory has no such tag. */
export async function geoReferenceOf(directory: Directory): Promise<GeoReference | null> {
  const tags = new Map<number, RawTag>();
  for (const tag of GEO_TAGS) {
    const raw = await directory.raw(tag);
    if (raw) tags.set(tag, raw);
  }
  if (tags.size === 0) return null;
  const keys = keysOf(await directory.numbers(KEYS));
  const transform = await transformOf(directory, keys.get(RASTER_TYPE) === PIXEL_IS_POINT);
  const named = (key: number) => {
    const code = keys.get(key);
    return code !== undefined && code !== 0 && code !== USER_DEFINED ? code : null;
  };
  return { transform, epsg: named(PROJECTED) ?? named(GEOGRAPHIC), tags };
}

/** Keys whose value stands in the directory itself: codes. */
function keysOf(shorts: Float64Array | null): ReadonlyMap<number, number> {
  const keys = new Map<number, number>();
  for (let i = 4; shorts && i + 3 < shorts.length; i += 4) {
    if (shorts[i + 1] === 0) keys.set(shorts[i]!, shorts[i + 3]!);
  }
  return keys;
}

async function transformOf(directory: Directory, pixelIsPoint: boolean): Promise<GeoReference["transform"]> {
  const scale = await directory.numbers(PIXEL_SCALE);
  const tie = await directory.numbers(TIE_POINTS);
  const matrix = await directory.numbers(MATRIX);
  let t: [number, number, number, number, number, number];
  if (scale && scale.length >= 2 && scale[0] !== 0 && scale[1] !== 0 && tie && tie.length >= 6) {
    const [sx, sy] = [scale[0]!, Math.abs(scale[1]!)];
    t = [tie[3]! - tie[0]! * sx, sx, 0, tie[4]! + tie[1]! * sy, 0, -sy];
  } else if (matrix && matrix.length >= 8) {
    t = [matrix[3]!, matrix[0]!, matrix[1]!, matrix[7]!, matrix[4]!, matrix[5]!];
  } else {
    return null;
  }
  if (!t.every(Number.isFinite)) return null;
  // The tie is then a pixel's centre; ours is its corner.
  if (pixelIsPoint) {
    t[0] -= 0.5 * t[1] + 0.5 * t[2];
    t[3] -= 0.5 * t[4] + 0.5 * t[5];
  }
  return t;
}

/**
 * The georeference of another grid in the same coordinate system: a part of an image, or one of another resolution.
 * @param transform From its pixel corners, in GDAL's order.
 */
export function geoReferenceAt(
  { epsg, tags }: GeoReference,
  transform: readonly [number, number, number, number, number, number],
): GeoReference {
  const [x, dx, xy, y, yx, dy] = transform;
  const half = isPixelPoint(tags) ? 0.5 : 0; // the tie is then the centre of the first pixel
  const [left, top] = [x + half * (dx + xy), y + half * (yx + dy)];
  const others = [...tags].filter(([tag]) => tag !== PIXEL_SCALE && tag !== TIE_POINTS && tag !== MATRIX);
  const isNorthUp = xy === 0 && yx === 0 && dx > 0 && dy < 0;
  const placed: readonly (readonly [number, RawTag])[] = isNorthUp
    ? [
        [PIXEL_SCALE, doubles([dx, -dy, 0])],
        [TIE_POINTS, doubles([0, 0, 0, left, top, 0])],
      ]
    : [[MATRIX, doubles([dx, xy, 0, left, yx, dy, 0, top, 0, 0, 0, 0, 0, 0, 0, 1])]];
  return { transform, epsg, tags: new Map([...others, ...placed]) };
}

function isPixelPoint(tags: ReadonlyMap<number, RawTag>): boolean {
  const raw = tags.get(KEYS);
  if (!raw) return false;
  const view = new DataView(raw.bytes.buffer, raw.bytes.byteOffset, raw.bytes.byteLength);
  const shorts = Float64Array.from({ length: raw.count }, (_, i) => view.getUint16(i * 2, true));
  return keysOf(shorts).get(RASTER_TYPE) === PIXEL_IS_POINT;
}
