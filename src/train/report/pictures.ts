import { encodePNG } from "../../data/png.js";
import { escapeHTML, renderKey } from "./html.js";

export interface Picture {
  readonly height: number;
  readonly width: number;
  readonly pixels: Uint8Array; // [height, width, 3]
}
/** Pictures side by side: one row a tile, one column a view of it. */
export interface PictureGrid {
  readonly title: string;
  /** Colours of the column of differences, as in CSS. */
  readonly key?: readonly { readonly name: string; readonly colour: string }[];
  readonly columns: readonly string[];
  readonly rows: readonly { readonly name: string; readonly pictures: readonly Picture[] }[];
}

/** Okabe and Ito's palette, told apart in most kinds of colour blindness; hues by the golden angle beyond it. */
const PALETTE: readonly (readonly [number, number, number])[] = [
  [120, 120, 120],
  [213, 94, 0],
  [230, 159, 0],
  [0, 158, 115],
  [0, 114, 178],
  [204, 121, 167],
  [86, 180, 233],
  [240, 228, 66],
];
const IGNORED = [0, 0, 0] as const;

/** The colour of a class, 0 … 255. */
export function classColour(index: number): readonly [number, number, number] {
  const named = PALETTE[index];
  if (named) return named;
  const hue = (index * 137.508) % 360;
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/** A label or prediction in class colours; the ignore index and anything else unknown is black. */
export function paintLabels(labels: ArrayLike<number>, height: number, width: number, classes: number): Picture {
  const pixels = new Uint8Array(height * width * 3);
  for (let i = 0; i < height * width; i++) pixels.set(labels[i]! < classes ? classColour(labels[i]!) : IGNORED, i * 3);
  return { height, width, pixels };
}

/** Of two classes the second is what is looked for; of more, right and wrong are all that a colour can say. */
const OUTCOMES = {
  found: { name: "found (true positive)", colour: [0, 158, 115] },
  invented: { name: "invented (false positive)", colour: [213, 94, 0] },
  missed: { name: "missed (false negative)", colour: [86, 180, 233] },
  background: { name: "rightly left (true negative)", colour: [70, 70, 70] },
  right: { name: "right", colour: [70, 70, 70] },
  wrong: { name: "wrong", colour: [213, 94, 0] },
  ignored: { name: "ignored", colour: IGNORED },
} as const;
type Outcome = keyof typeof OUTCOMES;

/** The colours of `paintDifference`. */
export function differenceKey(classes: number): { name: string; colour: string }[] {
  const shown: readonly Outcome[] =
    classes === 2 ? ["found", "invented", "missed", "background", "ignored"] : ["right", "wrong", "ignored"];
  return shown.map((outcome) => ({ name: OUTCOMES[outcome].name, colour: rgb(OUTCOMES[outcome].colour) }));
}

/**
 * Where a prediction differs from the labels. Two classes: true and false positives and negatives of the second; more:
 * right and wrong. What is ignored is black.
 */
export function paintDifference(
  labels: ArrayLike<number>,
  predictions: ArrayLike<number>,
  height: number,
  width: number,
  classes: number,
): Picture {
  const pixels = new Uint8Array(height * width * 3);
  const outcome = (label: number, prediction: number): Outcome => {
    if (!(label < classes)) return "ignored";
    if (classes !== 2) return label === prediction ? "right" : "wrong";
    if (label === 1) return prediction === 1 ? "found" : "missed";
    return prediction === 1 ? "invented" : "background";
  };
  for (let i = 0; i < height * width; i++) {
    pixels.set(OUTCOMES[outcome(labels[i]!, predictions[i]!)].colour, i * 3);
  }
  return { height, width, pixels };
}

const rgb = (colour: readonly number[]): string => `rgb(${colour.join(" ")})`;

/** @param classes names of the colours in pictures of labels. */
export function renderGrid({ title, key = [], columns, rows }: PictureGrid, classes: readonly string[]): string {
  const colours = renderKey(
    classes.map((name, i) => ({ name, colour: rgb(classColour(i)) })),
    key.length > 0 ? "classes" : "",
  );
  const head = ["", ...columns].map((c) => `<th>${escapeHTML(c)}</th>`).join("");
  const body = rows.map(({ name, pictures }) => {
    const cells = pictures.map((p, i) => {
      const url = `data:image/png;base64,${Buffer.from(encodePNG(p.pixels, p.height, p.width)).toString("base64")}`;
      return `<td><img alt="${escapeHTML(`${name}, ${columns[i] ?? ""}`)}" width="${p.width}" height="${p.height}" src="${url}"></td>`;
    });
    return `<tr><td>${escapeHTML(name)}</td>${cells.join("")}</tr>`;
  });
  return `<h2>${escapeHTML(title)}</h2>${colours}${key.length > 0 ? renderKey(key, "difference") : ""}
<div class="scroll"><table class="grid"><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}
