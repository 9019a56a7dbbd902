import { DataError } from "../../errors.js";
import type { RasterInfo, Samples } from "../raster/raster.js";

export const IGNORE = 255;

/** How the values of a label file become class indices. */
export type LabelRule =
  /** An index for every value that may stand in one 8-bit band; values that are not named are refused. */
  | { readonly kind: "values"; readonly index: ReadonlyMap<number, number> }
  /** An index for every colour (`r << 16 | g << 8 | b`), exactly. */
  | { readonly kind: "colours"; readonly index: ReadonlyMap<number, number> };

export const colourKey = (red: number, green: number, blue: number): number => (red << 16) | (green << 8) | blue;

/** Values 0 … classes - 1 as they are, and 255. */
export const plainValues = (classes: number): LabelRule => ({
  kind: "values",
  index: new Map([...Array(classes).keys(), IGNORE].map((value) => [value, value])),
});

/**
 * Class indices of a window of a label file.
 * @param at Row and column of the window's first pixel, for messages.
 * @throws DataError for a value or colour that the rule does not name.
 */
export function toIndices(
  info: RasterInfo,
  samples: Samples,
  rule: LabelRule,
  { x, y, width }: { readonly x: number; readonly y: number; readonly width: number },
): Uint8Array {
  const { bands, palette, file } = info;
  const out = new Uint8Array(samples.length / bands);
  if (rule.kind === "values" && (bands !== 1 || info.type !== "u8")) {
    throw new DataError(
      file,
      `labels must be one 8-bit band, this one has ${bands} of ${info.bits} bits: name its colours`,
    );
  }
  if (rule.kind === "colours" && !palette && (bands < 3 || info.type !== "u8")) {
    throw new DataError(
      file,
      `labels should show classes as 8-bit colours, this one has ${bands} bands of ${info.bits} bits`,
    );
  }
  for (let p = 0; p < out.length; p++) {
    let key = samples[p * bands]!;
    if (rule.kind === "colours") {
      const [from, at] = palette ? [palette, key * 3] : [samples, p * bands];
      key = colourKey(from[at] ?? 0, from[at + 1] ?? 0, from[at + 2] ?? 0);
    }
    const index = rule.index.get(key);
    if (index === undefined) {
      const what =
        rule.kind === "values" ? `label ${key}` : `the colour ${[key >> 16, (key >> 8) & 255, key & 255].join(", ")}`;
      const place = `row ${y + Math.floor(p / width)}, column ${x + (p % width)}`;
      throw new DataError(file, `${what} at ${place} is no class`);
    }
    out[p] = index;
  }
  return out;
}
