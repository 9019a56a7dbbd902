import { describe, expect, it } from "vitest";
import type { Tile, TileSource } from "../../src/data/index.js";
import { DataError } from "../../src/errors.js";
import { DeepLabV3Plus } from "../../src/models/index.js";
import { adaptBatchNorm, evaluate, predict } from "../../src/train/index.js";
import { referenceDevice } from "../harness.js";
import { tinyCities } from "./tiny.js";

const statistics = { mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2] } as const;
const model = () =>
  new DeepLabV3Plus(referenceDevice(), {
    backbone: "resnet18",
    width: 0.125,
    classes: 5,
    seed: 2,
    imagePooling: "group",
  });

function tilesOf(...tiles: readonly Tile[]): TileSource {
  return { name: "tiles", length: tiles.length, read: async (i) => tiles[i]! };
}
/** Noise of a given size. */
function tile(height: number, width: number, seed: number, label: number | null = 0): Tile {
  const image = Uint8Array.from({ length: height * width * 3 }, (_, i) => ((i + seed * 7919) * 2654435761) % 251);
  return {
    name: `${seed}`,
    height,
    width,
    bands: 3,
    image,
    valid: null,
    label: label === null ? null : new Uint8Array(height * width).fill(label),
  };
}

describe("predict", () => {
  it("gives a class for every pixel of tiles of any size, the same in a batch as alone", async () => {
    using net = model();
    const tiles = [tile(17, 30, 1), tile(20, 21, 2)]; // both padded to 32 x 32
    const together = await predict(net, tiles, statistics);
    expect(together.map((p) => p.length)).toEqual([510, 420]);
    for (const [i, t] of tiles.entries()) expect(await predict(net, [t], statistics)).toEqual([together[i]]);
    expect(net.training).toBe(true); // as it was
  });
});

describe("evaluate", () => {
  it("counts every labelled pixel once, whatever sizes are mixed", async () => {
    using net = model();
    const data = tinyCities();
    const ignored = tile(16, 16, 5, 255);
    const tiles = [tile(16, 16, 1, 0), tile(16, 16, 2, 3), tile(20, 9, 3, 1), ignored, tile(16, 16, 4, 2)];
    const confusion = await evaluate(net, data, tilesOf(...tiles), { statistics, batch: 2 });
    const scores = confusion.scores();
    expect(scores.pixels).toBe(256 * 3 + 180);
    expect(scores.perClass.map((c) => c.pixels)).toEqual([256, 180, 256, 256, 0]);
    const [prediction] = await predict(net, [tiles[1]!], statistics);
    for (let c = 0; c < 5; c++) expect(confusion.count(3, c)).toBe(prediction!.filter((p) => p === c).length);
  });

  it("names the tile that has no labels, and stops when told to", async () => {
    using net = model();
    const data = tinyCities();
    const failed = await evaluate(net, data, tilesOf(tile(16, 16, 7, null)), { statistics }).catch((e: unknown) => e);
    expect(failed).toBeInstanceOf(DataError);
    expect((failed as DataError).file).toBe("7");
    const aborted = evaluate(net, data, tilesOf(tile(16, 16, 1)), { statistics, signal: AbortSignal.abort() });
    await expect(aborted).rejects.toThrow(/abort/i);
  });
});

describe("adaptBatchNorm", () => {
  const first = (net: DeepLabV3Plus) => net.buffers().get("encoder.bn1.running_mean")!.data();

  it("takes the mean over the batches, of the given tiles only", async () => {
    using net = model();
    const [a, b] = [tile(32, 32, 1, null), tile(32, 32, 2, null)];
    const weights = await Promise.all([...net.parameters().values()].map((t) => t.data()));
    const adapt = async (...tiles: Tile[]) => {
      await adaptBatchNorm(net, tilesOf(...tiles), { statistics, batch: 1 });
      return [...(await first(net))];
    };
    const [onA, onB] = [await adapt(a), await adapt(b)];
    expect(onA).not.toEqual(onB);
    expect(await adapt(a)).toEqual(onA); // nothing remains of what was there before
    // The first normalisation's input depends on no other: its mean over both is the mean of the means.
    const both = await adapt(a, { ...b, name: "b" });
    both.forEach((v, i) => {
      expect(v).toBeCloseTo((onA[i]! + onB[i]!) / 2, 6);
    });
    expect(await Promise.all([...net.parameters().values()].map((t) => t.data()))).toEqual(weights);
    expect(net.training).toBe(true);
    for (const module of net.modules().values()) if ("momentum" in module) expect(module.momentum).toBe(0.1);
  });
});
