import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.js";
import { DeepLabV3Plus } from "../../src/models/index.js";
import { softmax } from "../../src/ops/index.js";
import { Tensor } from "../../src/tensor.js";
import { IDENTITY, probabilities, type View, viewsOf } from "../../src/train/tta.js";
import { allDevices, referenceDevice, values } from "../harness.js";

const ALL = viewsOf({ flip: true, rot90: true });
const imagesOf = (shape: readonly number[], seed = 1, device = referenceDevice()) =>
  Tensor.from(
    device,
    Float32Array.from(
      values(
        shape.reduce((a, b) => a * b, 1),
        seed,
      ),
    ),
    shape,
  );
const net = () =>
  new DeepLabV3Plus(referenceDevice(), {
    backbone: "resnet18",
    width: 0.125,
    classes: 3,
    seed: 2,
    imagePooling: "group",
  }).eval();
/** Judges every pixel by itself, so that no view may change anything; keeps what it saw. */
const pixelwise = () => {
  const seen: Promise<ArrayLike<number>>[] = [];
  const shapes: (readonly number[])[] = [];
  const forward = (x: Tensor): Tensor => {
    seen.push(x.data());
    shapes.push(x.shape);
    return x.alias();
  };
  return { forward, seen, shapes };
};
const numbers = async (x: Tensor) => [...(await x.data())];

describe("viewsOf", () => {
  it("gives every combination once", () => {
    expect(viewsOf()).toEqual([IDENTITY]);
    expect([viewsOf({ flip: true }), viewsOf({ rot90: true }), ALL].map((v) => v.length)).toEqual([2, 4, 8]);
    expect(new Set(ALL.map((v) => JSON.stringify(v))).size).toBe(8);
    const scaled = viewsOf({ flip: true, scales: [0.5, 1] });
    expect(scaled.map((v) => [v.scale, v.mirrored])).toEqual([
      [0.5, false],
      [0.5, true],
      [1, false],
      [1, true],
    ]);
  });
  it.each([[[]], [[1, 1]], [[0]], [[5]], [[Number.NaN]]])("refuses the scales %j", (scales) => {
    expect(() => viewsOf({ scales })).toThrow(ArgumentError);
  });
});

describe("probabilities", () => {
  it("of the image as it is are softmax, bit for bit", async () => {
    using model = net();
    using x = imagesOf([2, 32, 48, 3]);
    using plain = softmax(model.forward(x));
    using seen = probabilities(model, x);
    expect(seen.shape).toEqual([2, 32, 48, 3]);
    expect(await numbers(seen)).toEqual(await numbers(plain));
  });

  it("come back to their pixels from every view, bit for bit, on every device and at sizes of all factors", async () => {
    for (const device of await allDevices()) {
      for (const [h, w] of [
        [16, 32],
        [6, 35],
        [13, 1],
        [34, 27],
      ] as const) {
        using x = imagesOf([2, h, w, 5], h, device);
        using plain = softmax(x);
        const expected = await numbers(plain);
        for (const view of ALL) {
          using seen = probabilities(pixelwise(), x, [view]);
          expect(await numbers(seen), `${device.name} ${h} x ${w} ${JSON.stringify(view)}`).toEqual(expected);
        }
      }
    }
  });

  it("show the model the eight symmetries of the image: its turns as numpy.rot90, and their mirrors", async () => {
    using x = Tensor.from(referenceDevice(), Float32Array.of(1, 2, 3, 4, 5, 6), [1, 2, 3, 1]);
    const model = pixelwise();
    for (const view of ALL) probabilities(model, x, [view]).dispose();
    const seen = (await Promise.all(model.seen)).map(
      (data, i) => `${model.shapes[i]!.slice(1, 3)}: ${Array.from(data)}`,
    );
    expect(seen).toEqual([
      "2,3: 1,2,3,4,5,6",
      "3,2: 3,6,2,5,1,4", // numpy.rot90(x)
      "2,3: 6,5,4,3,2,1",
      "3,2: 4,1,5,2,6,3",
      "2,3: 3,2,1,6,5,4", // numpy.fliplr(x)
      "3,2: 1,4,2,5,3,6", // x.T
      "2,3: 4,5,6,1,2,3", // numpy.flipud(x)
      "3,2: 6,3,5,2,4,1",
    ]);
  });

  it("are those of the mirrored image, mirrored, over all symmetries of a network that has none", async () => {
    using model = net();
    const [h, w] = [32, 48];
    using x = imagesOf([1, h, w, 3]);
    const pixels = await x.data();
    const mirror = (data: ArrayLike<number>) =>
      Float64Array.from({ length: data.length }, (_, i) => {
        const [pixel, c] = [Math.floor(i / 3), i % 3];
        return data[(Math.floor(pixel / w) * w + (w - 1 - (pixel % w))) * 3 + c]!;
      });
    using mirrored = Tensor.from(referenceDevice(), Float32Array.from(mirror(pixels)), [1, h, w, 3]);
    using a = probabilities(model, x, ALL);
    using b = probabilities(model, mirrored, ALL);
    const [there, back] = [await numbers(a), mirror(await b.data())];
    there.forEach((p, i) => {
      expect(back[i]).toBeCloseTo(p, 10);
    });
    using alone = probabilities(model, x);
    const plain = await numbers(alone);
    expect(Math.max(...there.map((p, i) => Math.abs(p - plain[i]!)))).toBeGreaterThan(1e-4); // the mean is another
    for (let i = 0; i < there.length; i += 3) expect(there[i]! + there[i + 1]! + there[i + 2]!).toBeCloseTo(1, 10);
  });

  it("keep the images' size at every scale, on their side too", async () => {
    using x = imagesOf([1, 40, 64, 2]);
    const model = pixelwise();
    const views: View[] = [0.25, 0.75, 1, 1.5].map((scale, i) => ({ ...IDENTITY, scale, transposed: i % 2 === 1 }));
    using seen = probabilities(model, x, views);
    expect(seen.shape).toEqual([1, 40, 64, 2]);
    expect(model.shapes.map((s) => s.slice(1, 3))).toEqual([
      [16, 16],
      [48, 32],
      [40, 64],
      [96, 64],
    ]);
    expect((await numbers(seen)).every((p) => p > 0 && p < 1)).toBe(true);
    expect(() => probabilities(model, x, [])).toThrow(ArgumentError);
  });
});
