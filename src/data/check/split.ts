import type { ImageFacts, LabelFacts } from "./examine.js";
import { type Findings, percent } from "./finding.js";

/** Above this share of a tile it says little: of ignored label pixels, and of pixels without data. */
const MOSTLY = 0.9;
/** Standard deviation below which a tile shows nothing, as a share of the type's range (1 grey level of 255). */
const FLAT = 1 / 255;

/** What the tiles of one split add up to. */
export class SplitSummary {
  tiles = 0;
  /** Pixels of labels that were counted. */
  labelled = 0;
  /** Pixels of images that were read, and those among them without measurement. */
  pixels = 0;
  lost = 0;
  /** Label pixels by value. */
  readonly histogram = new Float64Array(256);
  /** Tiles by `height x width`, and by `bands x type`. */
  readonly sizes = new Map<string, number>();
  readonly kinds = new Map<string, number>();
  smallest = Number.POSITIVE_INFINITY;
  /** Sums by band of the tiles that share the first one's bands. */
  bands: { count: number; sum: number; square: number }[] = [];

  constructor(
    readonly name: string,
    /** Does the split exist, and does anything read its labels? */
    readonly hasLabels: boolean,
  ) {}

  addImage(file: string, facts: ImageFacts, findings: Findings): void {
    const { info, lost, notANumber, infinite, measured } = facts;
    const pixels = info.width * info.height;
    this.tiles++;
    this.pixels += pixels;
    this.lost += lost;
    this.smallest = Math.min(this.smallest, info.width, info.height);
    count(this.sizes, `${info.height} x ${info.width}`);
    count(this.kinds, kindOf(facts));
    if (infinite > 0) {
      findings.error("infinite", file, `${infinite} samples are infinite: one of them makes every loss NaN`);
    }
    if (notANumber > 0) findings.note("nan", file, `${notANumber} samples are NaN and count as no data`);
    if (lost === pixels) findings.warn("no-data-only", file, "holds no measured pixel");
    else if (lost > MOSTLY * pixels) findings.warn("no-data-mostly", file, `${percent(lost / pixels)} have no data`);
    if (measured > 0 && isFlat(facts)) findings.warn("near-constant", file, "shows one even colour");
    if (this.bands.length === 0) this.bands = facts.bands.map(() => ({ count: 0, sum: 0, square: 0 }));
    if (this.bands.length !== facts.bands.length) return; // mixed bands are a finding of their own
    facts.bands.forEach(({ sum, square }, band) => {
      const entry = this.bands[band]!;
      entry.count += measured;
      entry.sum += sum;
      entry.square += square;
    });
  }

  /** @param classes null where nobody named them: values are then only counted. */
  addLabel(
    file: string,
    facts: LabelFacts,
    classes: readonly string[] | null,
    ignore: number,
    findings: Findings,
  ): void {
    const { histogram, refusal, first } = facts;
    if (refusal) findings.error(refusal.code, file, refusal.message);
    if (!histogram) return;
    const total = histogram.reduce((a, b) => a + b, 0);
    histogram.forEach((pixels, value) => {
      this.histogram[value]! += pixels;
    });
    this.labelled += total;
    const ignored = histogram[ignore]! / total;
    if (ignored === 1) findings.warn("all-ignore", file, `every pixel is ${ignore} (ignore): nothing to learn from`);
    else if (ignored > MOSTLY) findings.warn("mostly-ignore", file, `${percent(ignored)} are ${ignore} (ignore)`);
    if (!classes) return;
    const strange = [...histogram.keys()].filter((v) => histogram[v]! > 0 && v >= classes.length && v !== ignore);
    if (strange.length > 0) {
      const [value] = strange;
      const [row, column] = first.get(value!)!;
      const pixels = strange.reduce((sum, v) => sum + histogram[v]!, 0);
      const values = strange.length > 8 ? `${strange.slice(0, 8).join(", ")} …` : strange.join(", ");
      const last = classes.length - 1;
      findings.error(
        "label-values",
        file,
        `${pixels} pixels hold ${values}, which is neither a class (0 … ${last}) nor ${ignore} (ignore); the first is ${value} at row ${row}, column ${column}`,
      );
    }
    const present = classes.filter((_, index) => histogram[index]! > 0);
    if (present.length === 1 && strange.length === 0) {
      findings.note("one-class", file, `holds only ${present[0]}`);
    }
  }
}

export const kindOf = ({ info }: ImageFacts): string => `${info.bands} bands of ${info.type}`;

export function count<K>(map: Map<K, number>, key: K): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

/** Deviation of every band below one 255th of the type's range; floats, which have none, of their largest value. */
function isFlat({ info, bands, measured }: ImageFacts): boolean {
  return bands.every(({ sum, square, min, max }) => {
    const mean = sum / measured;
    const deviation = Math.sqrt(Math.max(0, square / measured - mean * mean));
    const full = { u8: 255, i8: 255, u16: 0, i16: 0, u32: 0, i32: 0, f32: 0, f64: 0 }[info.type];
    const range = full > 0 ? full : Math.max(Math.abs(min), Math.abs(max));
    return max === min || deviation < FLAT * range;
  });
}
