import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRaster } from "../../src/data/raster/open.js";
import type { Raster, RasterInfo, Window } from "../../src/data/raster/raster.js";
import { ArgumentError } from "../../src/errors.js";
import { DeepLabV3Plus } from "../../src/models/index.js";
import { predict } from "../../src/train/index.js";
import { predictScene, type SceneOptions, type SceneRows } from "../../src/train/scene.js";
import { mapScene } from "../../src/train/scene_map.js";
import { referenceDevice } from "../harness.js";

const statistics = { mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2] };
const CLASSES = ["a", "b", "c"];
const model = () =>
  new DeepLabV3Plus(referenceDevice(), {
    backbone: "resnet18",
    width: 0.125,
    classes: 3,
    seed: 2,
    imagePooling: "group",
  });

/** Noise of a given size, in memory; records how many rows a window had. */
function scene(width: number, height: number, noData: number | null = null): Raster & { readonly pixels: Uint8Array } {
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) => 1 + ((i * 2654435761) % 251));
  const info: RasterInfo = {
    ...{ file: "scene", format: "tiff", width, height, bands: 3, type: "u8", bits: 8, noData, alphaBand: null },
    ...{ colour: "rgb", palette: null, geo: null, overviews: [], block: { width: 16, height: 16 } },
  };
  const readWindow = async ({ x, y, width: w, height: h }: Window) => {
    const out = new Uint8Array(w * h * 3);
    for (let r = 0; r < h; r++)
      out.set(pixels.subarray(((y + r) * width + x) * 3, ((y + r) * width + x + w) * 3), r * w * 3);
    return out;
  };
  return { info, pixels, readWindow, close: async () => {} };
}
const OPTIONS: SceneOptions = { statistics, window: 32, overlap: 0.25, batch: 2 };

async function all(net: DeepLabV3Plus, raster: Raster, options: Partial<SceneOptions> = {}) {
  const parts: SceneRows[] = [];
  for await (const rows of predictScene(net, raster, { ...OPTIONS, ...options })) {
    parts.push({ ...rows, probabilities: rows.probabilities.slice(), valid: rows.valid.slice() });
  }
  return parts;
}
const joined = (parts: readonly SceneRows[]) => parts.flatMap((part) => [...part.probabilities]);

describe("predictScene", () => {
  it("gives every row once, in order, with probabilities that sum to 1", async () => {
    using net = model();
    const parts = await all(net, scene(71, 83));
    let next = 0;
    for (const { y, rows, probabilities, valid } of parts) {
      expect(y).toBe(next);
      next += rows;
      expect([probabilities.length, valid.length]).toEqual([rows * 71 * 3, rows * 71]);
      for (let p = 0; p < valid.length; p++) {
        expect(probabilities.slice(p * 3, p * 3 + 3).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
      }
    }
    expect(next).toBe(83);
  });

  it("is the prediction of the whole tile where one window holds the scene", async () => {
    using net = model();
    const raster = scene(30, 17);
    const [labels] = await predict(
      net,
      [{ name: "", height: 17, width: 30, bands: 3, image: raster.pixels, valid: null, label: null }],
      statistics,
    );
    const [part] = await all(net, raster);
    const best = Array.from({ length: 30 * 17 }, (_, p) => {
      const shares = part!.probabilities.slice(p * 3, p * 3 + 3);
      return shares.indexOf(Math.max(...shares));
    });
    expect(best).toEqual([...labels!]);
  });

  it("blends windows by their distance: the nearer one has the say", async () => {
    using net = model();
    const raster = scene(48, 32); // windows at 0 and 16
    const whole = joined(await all(net, raster, { overlap: 0.5 }));
    const alone = async (x: number) => {
      const part: Raster = {
        ...raster,
        info: { ...raster.info, width: 32 },
        readWindow: (window) => raster.readWindow({ ...window, x: window.x + x }),
      };
      return joined(await all(net, part));
    };
    const [left, right] = [await alone(0), await alone(16)];
    const at = (values: number[], width: number, x: number) => values[(16 * width + x) * 3]!;
    for (let x = 0; x < 48; x++) {
      const got = at(whole, 48, x);
      if (x < 16) expect(got).toBeCloseTo(at(left, 32, x), 6);
      else if (x >= 32) expect(got).toBeCloseTo(at(right, 32, x - 16), 6);
      else {
        const [a, b] = [at(left, 32, x), at(right, 32, x - 16)];
        const weight = (place: number) => Math.exp(-0.5 * ((place - 15.5) / 4) ** 2);
        const row = weight(16);
        const [wa, wb] = [Math.max(1e-3, weight(x) * row), Math.max(1e-3, weight(x - 16) * row)];
        expect(got).toBeCloseTo((a * wa + b * wb) / (wa + wb), 5);
      }
    }
  });

  it("starts at any row with the same bits", async () => {
    using net = model();
    const raster = scene(40, 90);
    const whole = joined(await all(net, raster));
    for (const from of [1, 24, 57, 89]) {
      const parts = await all(net, raster, { from });
      expect(parts[0]!.y).toBe(from);
      expect(joined(parts)).toEqual(whole.slice(from * 40 * 3));
    }
  });

  it("refuses options out of range, and stops when told to", async () => {
    using net = model();
    await expect(all(net, scene(9, 9), { window: 40 })).rejects.toThrow(ArgumentError);
    await expect(all(net, scene(9, 9), { overlap: 0.95 })).rejects.toThrow(ArgumentError);
    await expect(all(net, scene(9, 9), { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });
});

describe("mapScene", () => {
  let root: string;
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), "lacuna-scene-"));
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  it("goes on where it was stopped, to the same bytes, and leaves out what was not measured", async () => {
    using net = model();
    const raster = scene(20, 600, 0);
    raster.pixels.fill(0, 0, 20 * 3 * 2); // two rows
    const paths = (name: string) => ({ map: join(root, `${name}.tif`), probabilities: join(root, `${name}.p.tif`) });
    const options = { ...OPTIONS, window: 64, batch: 8, classes: CLASSES, provenance: "p" };
    await mapScene(net, raster, { ...options, ...paths("whole") });
    let calls = 0;
    const stop = new AbortController();
    const onProgress = () => {
      if (++calls === 8) stop.abort(new Error("enough"));
    };
    await expect(
      mapScene(net, raster, { ...options, ...paths("parts"), signal: stop.signal, onProgress }),
    ).rejects.toThrow("enough");
    let again = 0;
    await mapScene(net, raster, { ...options, ...paths("parts"), onProgress: () => again++ });
    expect(again).toBeLessThan(calls + 5); // 13 rows of windows in all
    for (const end of [".tif", ".p.tif"]) {
      expect(readFileSync(join(root, `parts${end}`)).equals(readFileSync(join(root, `whole${end}`)))).toBe(true);
    }
    const map = await openRaster(join(root, "whole.tif"));
    const labels = await map.readWindow({ x: 0, y: 0, width: 20, height: 600 });
    await map.close();
    expect([...labels.slice(0, 40)]).toEqual(Array(40).fill(255));
    expect(labels.slice(40).every((label) => label < 3)).toBe(true);
    const shares = await openRaster(join(root, "whole.p.tif"));
    const bytes = await shares.readWindow({ x: 0, y: 0, width: 20, height: 600 });
    await shares.close();
    for (let p = 40; p < labels.length; p++) {
      const three = bytes.slice(p * 3, p * 3 + 3);
      expect(Math.abs(three[0]! + three[1]! + three[2]! - 255)).toBeLessThanOrEqual(2);
      expect(three[labels[p]!]).toBe(Math.max(...three));
    }
  });
});
