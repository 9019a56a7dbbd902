import { basename } from "node:path";
import type { Findings } from "./finding.js";

interface Place {
  readonly split: string;
  readonly file: string;
}

/** Finds images with the same pixels. Tiles that show nothing are all alike and left out by the caller. */
export class Duplicates {
  readonly #places = new Map<string, Place[]>();

  add(hash: string, split: string, file: string): void {
    const before = this.#places.get(hash);
    if (before) before.push({ split, file });
    else this.#places.set(hash, [{ split, file }]);
  }

  /** One finding for each file that repeats another. */
  report(findings: Findings): void {
    for (const places of this.#places.values()) {
      const train = places.find(({ split }) => split.endsWith("/train"));
      places.forEach(({ split, file }, index) => {
        if (split.endsWith("/val") && train) {
          const other = `${train.split}/${basename(train.file)}`;
          findings.error("leak", file, `has the pixels of ${other}: validation shows what training saw`);
        } else if (index > 0) {
          const other = places[0]!;
          const where = other.split === split ? "" : `${other.split}/`;
          findings.warn("duplicate", file, `has the pixels of ${where}${basename(other.file)}`);
        }
      });
    }
  }
}
