import type { Dataset, Domain, Split } from "./dataset.js";
import { twoCities } from "./two_cities.js";

export interface ProceduralOptions {
  /** Height and width of a tile, pixels. */
  readonly size: number;
  /** Tiles of each city to train on, and to evaluate on. */
  readonly train: number;
  readonly val: number;
  /** Which pair of cities. */
  readonly seed: number;
}

/** A finite set of tiles of the two procedural cities. `target/train` has no labels, as everywhere. */
export function proceduralDataset({ size, train, val, seed }: ProceduralOptions): Dataset {
  return {
    name: "two-cities",
    classes: twoCities.classes,
    bands: 3,
    type: "u8",
    ignoreIndex: 255,
    has: () => true,
    split(domain: Domain, split: Split) {
      const name = `${domain}/${split}`;
      const length = split === "train" ? train : val;
      return {
        name,
        length,
        read: async (index) => {
          if (!(index >= 0 && index < length))
            throw new RangeError(`${name} has ${length} tiles, there is none at ${index}`);
          const { image, label } = twoCities.tile({ city: domain, split, index, size, seed });
          const unlabelled = domain === "target" && split === "train";
          const place = { name: `${name}/${index}`, height: size, width: size, bands: 3 };
          return { ...place, image, valid: null, label: unlabelled ? null : label };
        },
      };
    },
  };
}
