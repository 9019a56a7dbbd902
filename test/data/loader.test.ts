import { describe, expect, it } from "vitest";
import {
  type AugmentOptions,
  BatchLoader,
  cached,
  type Dataset,
  measure,
  proceduralDataset,
  statisticsOf,
  type TileSamples,
  type TileSource,
} from "../../src/data/index.js";
import { ArgumentError, DataError } from "../../src/errors.js";
import { Generator } from "../../src/random.js";

const AUGMENT: AugmentOptions = {
  flip: true,
  rotate90: true,
  scale: [0.5, 2],
  brightness: 0.3,
  contrast: 0.3,
  saturation: 0.3,
};
const statistics = { mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2] } as const;

/** Tiles of one colour: 10 times their index. */
function flat(length: number): TileSource & { reads: number[] } {
  const reads: number[] = [];
  return {
    name: "flat",
    length,
    reads,
    read: async (index) => {
      reads.push(index);
      return {
        name: `${index}`,
        height: 8,
        width: 8,
        bands: 3,
        valid: null,
        image: new Uint8Array(192).fill(index * 10),
        label: new Uint8Array(64).fill(index),
      };
    },
  };
}
const loader = (source: TileSource, batch: number, seed = 1) =>
  new BatchLoader(source, { batch, crop: 8, augment: AUGMENT, statistics, ignoreIndex: 255 }, new Generator(seed));

describe("BatchLoader", () => {
  it("shows every tile once an epoch, in another order each time, across batch borders", async () => {
    const source = flat(5);
    const batches = loader(source, 3);
    for (let i = 0; i < 10; i++) await batches.next();
    const epochs = [0, 1, 2, 3, 4, 5].map((e) => source.reads.slice(e * 5, e * 5 + 5));
    for (const epoch of epochs) expect([...epoch].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(new Set(epochs.map((e) => e.join())).size).toBeGreaterThan(2);
    expect(batches.position).toBe(30);
  });

  it("goes on from a saved position with the same bytes", async () => {
    const straight = loader(flat(7), 4);
    const all = [];
    for (let i = 0; i < 6; i++) all.push(await straight.next());
    const resumed = loader(flat(7), 4);
    resumed.position = 12;
    for (let i = 3; i < 6; i++) expect(await resumed.next()).toEqual(all[i]);
    expect(all[0]).not.toEqual(all[1]);
  });

  it("depends on the seed, and a sample's chance not on the batch it falls in", async () => {
    const [ones, twos] = [loader(flat(4), 1), loader(flat(4), 2)];
    const [a, b, both] = [await ones.next(), await ones.next(), await twos.next()];
    expect([...both.images]).toEqual([...a.images, ...b.images]);
    expect(await loader(flat(4), 2, 9).next()).not.toEqual(both);
  });

  it("does not move on where a tile cannot be read", async () => {
    const broken = new Set([1]);
    const source: TileSource = {
      ...flat(3),
      read: async (index) => {
        if (broken.has(index)) throw new Error("broken");
        return flat(3).read(index);
      },
    };
    const batches = loader(source, 3);
    await expect(batches.next()).rejects.toThrow("broken");
    expect(batches.position).toBe(0);
    broken.clear();
    expect(await batches.next()).toEqual(await loader(flat(3), 3).next());
  });

  it("refuses empty splits and sizes that are none", () => {
    expect(() => loader(flat(0), 1)).toThrow(ArgumentError);
    expect(() => loader(flat(1), 0)).toThrow(ArgumentError);
  });
});

describe("cached", () => {
  it("reads a tile once, while there is room", async () => {
    const source = flat(4);
    const small = cached(source, 0.0005); // 524 bytes: two tiles of 256
    for (let i = 0; i < 3; i++) for (let k = 0; k < 4; k++) expect((await small.read(k)).label![0]).toBe(k);
    expect(source.reads).toEqual([0, 1, 2, 3, 2, 3, 2, 3]);
  });
});

describe("the procedural data set", () => {
  const data = proceduralDataset({ size: 16, train: 3, val: 2, seed: 0 });
  it("has labels everywhere but in the target's training split", async () => {
    for (const [domain, split, length, labelled] of [
      ["source", "train", 3, true],
      ["source", "val", 2, true],
      ["target", "train", 3, false],
      ["target", "val", 2, true],
    ] as const) {
      const tiles = data.split(domain, split);
      expect(tiles.length).toBe(length);
      const tile = await tiles.read(length - 1);
      expect([tile.height, tile.width, tile.image.length]).toEqual([16, 16, 768]);
      expect(tile.label !== null).toBe(labelled);
      if (tile.label) expect(tile.label.every((v) => v < data.classes.length)).toBe(true);
      await expect(tiles.read(length)).rejects.toThrow(RangeError);
    }
  });
});

describe("statisticsOf", () => {
  it("is the mean and deviation of every pixel, by domain or not", async () => {
    const constant = (a: number, b: number): TileSource => ({
      name: "two",
      length: 2,
      read: async (i) => ({
        name: `${i}`,
        height: 1,
        width: 2,
        bands: 3,
        valid: null,
        image: new Uint8Array(6).fill(i === 0 ? a : b),
        label: null,
      }),
    });
    const data: Dataset = {
      name: "x",
      bands: 3,
      type: "u8",
      classes: ["a", "b"],
      ignoreIndex: 255,
      has: () => true,
      split: (domain) => (domain === "source" ? constant(51, 153) : constant(102, 102)),
    };
    const own = await statisticsOf(data, "domain");
    expect(own.source.mean[1]).toBeCloseTo(0.4, 12);
    expect(own.source.std[2]).toBeCloseTo(0.2, 12);
    expect(own.target.mean[0]).toBeCloseTo(0.4, 12);
    expect(own.target.std[0]).toBe(1 / 255); // constant: never a division by 0
    expect((await statisticsOf(data, "source")).target).toEqual(own.source);
    expect((await statisticsOf(data, "imagenet")).target.mean).toEqual([0.485, 0.456, 0.406]);
  });

  it("counts measured pixels only, in every band, over the full scale of the type", async () => {
    const tiles = (image: TileSamples, valid: Uint8Array | null): TileSource => ({
      name: "bands",
      length: 1,
      read: async () => ({ name: "0", height: 1, width: 3, bands: 2, image, valid, label: null }),
    });
    const valid = Uint8Array.of(1, 0, 1);
    const wide = await measure(tiles(Uint16Array.of(0, 13107, 60000, 1, 65535, 39321), valid), 2, "u16");
    expect(wide.mean[0]).toBeCloseTo(0.5, 12);
    expect(wide.mean[1]).toBeCloseTo(0.4, 12);
    expect(wide.std[0]).toBeCloseTo(0.5, 12);
    const float = await measure(tiles(Float32Array.of(-3, 7, Number.NaN, Number.NaN, 5, 7), valid), 2, "f32");
    expect(float.mean).toEqual([1, 7]);
    expect(float.std[0]).toBe(4);
    expect(float.std[1]).toBeGreaterThan(0); // constant: never a division by 0
    const nothing = measure(tiles(new Float32Array(6), new Uint8Array(3)), 2, "f32");
    await expect(nothing).rejects.toThrow(DataError);
  });

  it("refuses ImageNet's figures for anything but 8-bit RGB", async () => {
    const split = () => flat(1);
    const data: Dataset = {
      name: "x",
      bands: 4,
      type: "u8",
      classes: ["a", "b"],
      ignoreIndex: 255,
      has: () => true,
      split,
    };
    await expect(statisticsOf(data, "imagenet")).rejects.toThrow(DataError);
  });
});
