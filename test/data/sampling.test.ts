import { describe, expect, it } from "vitest";
import { NO_AUGMENTATION } from "../../src/data/augment.js";
import { BatchLoader, classTable, type TileSource } from "../../src/data/index.js";
import { choose } from "../../src/data/sampling.js";
import { DataError } from "../../src/errors.js";
import { Generator } from "../../src/random.js";

const SIZE = 40;
/** Tile i holds class 0 but for a square of class i % 3 of 5 x 5 pixels, if that is not 0; class 3 never occurs. */
const tiles: TileSource = {
  name: "tiles",
  length: 9,
  read: async (index) => {
    const label = new Uint8Array(SIZE * SIZE);
    for (let y = 0; y < 5; y++) label.fill(index % 3, (y + 30) * SIZE + 3, (y + 30) * SIZE + 8);
    return { name: `${index}`, height: SIZE, width: SIZE, bands: 1, image: label, valid: null, label };
  },
};

describe("classTable", () => {
  it("draws classes evenly, or the rare ones more often, and tiles that have them", async () => {
    for (const sampling of ["balanced", "rare"] as const) {
      const table = await classTable(tiles, 4, sampling);
      expect(table.tiles).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 4, 7], [2, 5, 8], []]);
      expect(table.chances.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
      expect(table.chances[3]).toBe(0);
      const counts = [0, 0, 0, 0];
      const chance = new Generator(4);
      for (let i = 0; i < 3000; i++) {
        const { tile, shows } = choose(table, chance.fork(`${i}`));
        counts[shows!]!++;
        expect(table.tiles[shows!]).toContain(tile);
      }
      counts.forEach((count, c) => {
        expect(Math.abs(count / 3000 - table.chances[c]!)).toBeLessThan(0.03);
      });
      if (sampling === "balanced") expect(table.chances.slice(0, 3)).toEqual([1 / 3, 1 / 3, 1 / 3]);
      // exp((1 - share) / 0.1): class 0 has nearly all pixels
      else expect(table.chances[1]! / table.chances[0]!).toBeGreaterThan(5000);
    }
  });

  it("needs labels", async () => {
    const bare: TileSource = { ...tiles, read: async (i) => ({ ...(await tiles.read(i)), label: null }) };
    await expect(classTable(bare, 4, "rare")).rejects.toThrow(DataError);
    const ignored: TileSource = {
      ...tiles,
      read: async (i) => ({ ...(await tiles.read(i)), label: new Uint8Array(1600).fill(255) }),
    };
    await expect(classTable(ignored, 4, "rare")).rejects.toThrow(DataError);
  });
});

describe("crops by class", () => {
  it("show the class that they were drawn for, are the same from any position, and uniform ones seldom do", async () => {
    const options = {
      batch: 4,
      crop: 8,
      augment: { ...NO_AUGMENTATION, flip: true, rotate90: true, scale: [0.7, 1.6] as const },
      statistics: { mean: [0], std: [1] },
      ignoreIndex: 255,
    };
    const table = await classTable(tiles, 4, "rare");
    const make = (by: typeof table | null) => new BatchLoader(tiles, options, new Generator(3), by);
    const shown = async (loader: BatchLoader) => {
      let rare = 0;
      for (let i = 0; i < 10; i++) {
        const { labels } = await loader.next();
        for (let slot = 0; slot < 4; slot++)
          if (labels.subarray(slot * 64, slot * 64 + 64).some((v) => v === 1 || v === 2)) rare++;
      }
      return rare;
    };
    expect(await shown(make(table))).toBe(40);
    expect(await shown(make(null))).toBeLessThan(20);
    const [straight, jumped] = [make(table), make(table)];
    await straight.next();
    jumped.position = 4;
    expect(await jumped.next()).toEqual(await straight.next());
  });
});
