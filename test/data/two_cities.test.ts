import { describe, expect, it } from "vitest";
import { type City, type Split, type Tile, twoCities } from "../../src/data/two_cities.js";
import { ArgumentError } from "../../src/errors.js";

const [GROUND, BUILDING, ROAD, TREE, WATER] = [0, 1, 2, 3, 4];
const SIZE = 64;

function tile(city: City, index: number, options: { split?: Split; size?: number; seed?: number } = {}): Tile {
  const { split = "train", size = SIZE, seed = 0 } = options;
  return twoCities.tile({ city, split, index, size, seed });
}

/** Tiles 0, 7, 14 …: they spread over several rows of the mosaic, so that one river does not decide the shares. */
const many = (city: City, count = 48): Tile[] => Array.from({ length: count }, (_, i) => tile(city, 7 * i));

function shares(tiles: readonly Tile[]): number[] {
  const counts = [0, 0, 0, 0, 0];
  for (const { label } of tiles) for (const value of label) counts[value]++;
  const total = counts.reduce((a, b) => a + b);
  return counts.map((count) => count / total);
}

/** Mean of each channel, over all pixels or those of one class. */
function meanColour(tiles: readonly Tile[], only?: number): number[] {
  const sums = [0, 0, 0];
  let count = 0;
  for (const { image, label } of tiles) {
    label.forEach((value, i) => {
      if (only !== undefined && value !== only) return;
      count++;
      for (let c = 0; c < 3; c++) sums[c] += image[3 * i + c];
    });
  }
  return sums.map((sum) => sum / count);
}

const bytes = ({ image, label }: Tile): string => Buffer.concat([image, label]).toString("base64");

describe("twoCities.tile", () => {
  it("gives the shapes and values that it promises", () => {
    for (const city of ["source", "target"] as const) {
      for (const size of [1, 7, SIZE]) {
        const { image, label } = tile(city, 3, { size });
        expect(image.length).toBe(size * size * 3);
        expect(label.length).toBe(size * size);
        expect(label.every((value) => value < twoCities.classes.length)).toBe(true);
      }
    }
  });

  it("gives the same bytes again, in any order and between other tiles", () => {
    const forwards = [0, 1, 2, 3].flatMap((i) => [tile("source", i), tile("target", i, { split: "val" })]).map(bytes);
    tile("target", 99, { size: 33 });
    tile("source", 5, { seed: 12 });
    const backwards = [3, 2, 1, 0].flatMap((i) => [tile("target", i, { split: "val" }), tile("source", i)]).map(bytes);
    expect(backwards.reverse()).toEqual(forwards);
  });

  it("does not hand out memory that it writes to later", () => {
    const first = tile("source", 0);
    const before = bytes(first);
    tile("source", 1);
    expect(bytes(first)).toBe(before);
  });

  it("cuts its tiles from one map: neighbours fit together without a seam", () => {
    for (const city of ["source", "target"] as const) {
      const whole = tile(city, 0, { size: 2 * SIZE });
      for (const half of [0, 1]) {
        const part = tile(city, half);
        for (let y = 0; y < SIZE; y++) {
          const start = y * 2 * SIZE + half * SIZE;
          expect(part.label.subarray(y * SIZE, (y + 1) * SIZE)).toEqual(whole.label.subarray(start, start + SIZE));
          expect(part.image.subarray(3 * y * SIZE, 3 * (y + 1) * SIZE)).toEqual(
            whole.image.subarray(3 * start, 3 * (start + SIZE)),
          );
        }
      }
    }
  });

  it("differs by city, split, index and seed", () => {
    const tiles = [
      tile("source", 0),
      tile("target", 0),
      tile("source", 1),
      tile("source", 0, { split: "val" }),
      tile("source", 0, { seed: 1 }),
    ];
    expect(new Set(tiles.map(bytes)).size).toBe(tiles.length);
  });

  it("shows every class in both cities, each in a share that a network can learn", () => {
    for (const city of ["source", "target"] as const) {
      const share = shares(many(city));
      expect(share[GROUND]).toBeGreaterThan(0.35);
      expect(share[GROUND]).toBeLessThan(0.6);
      expect(share[ROAD]).toBeGreaterThan(0.15);
      expect(share[ROAD]).toBeLessThan(0.33);
      for (const rare of [BUILDING, TREE, WATER]) {
        expect(share[rare]).toBeGreaterThan(0.04);
        expect(share[rare]).toBeLessThan(0.22);
      }
    }
  });

  it("keeps what makes the classes: water is darker than roads, roads than roofs, trees than grass", () => {
    for (const city of ["source", "target"] as const) {
      const tiles = many(city);
      const bright = [GROUND, BUILDING, ROAD, TREE, WATER].map((value) => {
        const colour = meanColour(tiles, value);
        return (colour[0] + colour[1] + colour[2]) / 3;
      });
      expect(bright[WATER]).toBeLessThan(bright[ROAD]);
      expect(bright[ROAD]).toBeLessThan(bright[BUILDING]);
      expect(bright[TREE]).toBeLessThan(bright[GROUND]);
    }
  });

  it("sees the target through another sensor: bluer and of less contrast", () => {
    const source = many("source");
    const target = many("target");
    const [red, , blue] = meanColour(source);
    const [redThere, , blueThere] = meanColour(target);
    expect(red - blue).toBeGreaterThan(0);
    expect(blueThere - redThere).toBeGreaterThan(5);
    const contrast = (tiles: readonly Tile[]) => meanColour(tiles, BUILDING)[0] - meanColour(tiles, WATER)[0];
    expect(contrast(target)).toBeLessThan(0.85 * contrast(source));
  });

  it("has more trees in the target, and less asphalt", () => {
    const source = shares(many("source", 96));
    const target = shares(many("target", 96));
    expect(target[TREE]).toBeGreaterThan(1.1 * source[TREE]);
    expect(target[ROAD]).toBeLessThan(0.95 * source[ROAD]);
  });

  it("lights both cities from different sides: shadows lie beyond buildings, away from the sun", () => {
    // Ground just north-west against just north-east of roofs: the source's sun stands in the south-east, the target's south-west.
    const beside = (city: City, dx: number, dy: number) => {
      let [sum, count] = [0, 0];
      for (const { image, label } of many(city)) {
        for (let y = 4; y < SIZE - 4; y++) {
          for (let x = 4; x < SIZE - 4; x++) {
            const at = y * SIZE + x;
            const neighbour = (y + dy) * SIZE + x + dx;
            if (label[at] !== BUILDING || label[neighbour] !== GROUND) continue;
            sum += image[3 * neighbour] + image[3 * neighbour + 1] + image[3 * neighbour + 2];
            count++;
          }
        }
      }
      return sum / count;
    };
    expect(beside("source", -3, -3)).toBeLessThan(0.8 * beside("source", 3, 3));
    expect(beside("target", 3, -3)).toBeLessThan(0.9 * beside("target", -3, 3));
  });

  it("refuses what is not a tile", () => {
    for (const wrong of [{ index: -1 }, { index: 0.5 }, { size: 0 }, { size: Number.NaN }, { seed: 0.1 }]) {
      const request = { city: "source", split: "train", index: 0, size: 8, seed: 0, ...wrong } as const;
      expect(() => twoCities.tile(request)).toThrow(ArgumentError);
    }
  });
});
