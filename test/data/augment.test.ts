import { describe, expect, it } from "vitest";
import { type AugmentOptions, cropInto, NO_AUGMENTATION, placeInto } from "../../src/data/augment.js";
import type { Tile } from "../../src/data/dataset.js";
import type { ChannelStatistics } from "../../src/data/normalise.js";
import { Generator } from "../../src/random.js";

const PLAIN: ChannelStatistics = { mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] }; // values stay 0 … 255
const ALL: AugmentOptions = {
  flip: true,
  rotate90: true,
  scale: [0.5, 2],
  brightness: 0.4,
  contrast: 0.4,
  saturation: 0.4,
};

/** Every pixel has its own label and carries it in red; green is the row, blue the column. */
function chart(height: number, width: number): Tile {
  const image = new Uint8Array(height * width * 3);
  const label = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      label[i] = i % 251;
      image.set([i % 251, y, x], i * 3);
    }
  }
  return { name: "chart", height, width, bands: 3, image, valid: null, label };
}

function cut(tile: Tile, crop: number, options: AugmentOptions, seed: number, statistics = PLAIN) {
  const images = new Float32Array(crop * crop * 3).fill(Number.NaN);
  const labels = new Uint32Array(crop * crop).fill(9999);
  cropInto(tile, crop, options, statistics, 255, new Generator(seed), { images, labels, slot: 0 });
  return { images, labels };
}

describe("augmentation", () => {
  it("keeps a tile as it is where nothing is asked for", () => {
    const tile = chart(12, 12);
    const { images, labels } = cut(tile, 12, NO_AUGMENTATION, 3);
    expect([...labels]).toEqual([...tile.label!]);
    expect(images.every((v, i) => Math.abs(v - tile.image[i]!) < 1e-4)).toBe(true);
  });

  it("moves the label with the image through mirrors, turns and crops", () => {
    const tile = chart(15, 13);
    const views = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const { images, labels } = cut(tile, 9, { ...NO_AUGMENTATION, flip: true, rotate90: true }, seed);
      for (let i = 0; i < 81; i++) expect(Math.round(images[i * 3]!)).toBe(labels[i]);
      // The direction of one step right and one step down, in rows and columns of the tile.
      const step = (to: number) => [1, 2].map((c) => Math.round(images[to * 3 + c]! - images[c]!)).join();
      views.add(`${step(1)} ${step(9)}`);
    }
    expect(views.size).toBe(8); // the symmetries of the square
  });

  it("takes crops from everywhere", () => {
    const tile = chart(11, 11);
    const corners = new Set<string>();
    for (let seed = 0; seed < 200; seed++)
      corners.add([...cut(tile, 9, NO_AUGMENTATION, seed).images.slice(1, 3)].map(Math.round).join());
    expect(corners.size).toBe(9);
  });

  it("scales image and label about the same places", () => {
    // A vertical edge: the label changes where the interpolated image passes the middle.
    const tile: Tile = {
      name: "edge",
      height: 16,
      width: 16,
      bands: 3,
      image: new Uint8Array(16 * 16 * 3),
      valid: null,
      label: new Uint8Array(256),
    };
    for (let i = 0; i < 256; i++) {
      if (i % 16 >= 8) {
        tile.label![i] = 1;
        tile.image.fill(200, i * 3, i * 3 + 3);
      }
    }
    for (const factor of [0.5, 1.3, 2]) {
      for (let seed = 0; seed < 20; seed++) {
        const { images, labels } = cut(tile, 8, { ...NO_AUGMENTATION, scale: [factor, factor] }, seed);
        for (let i = 0; i < 64; i++)
          if (Math.abs(images[i * 3]! - 100) > 1) expect(labels[i]).toBe(images[i * 3]! > 100 ? 1 : 0);
      }
    }
    const { labels } = cut(tile, 32, { ...NO_AUGMENTATION, scale: [2, 2] }, 0);
    expect(labels.filter((v) => v === 1).length).toBe(512);
  });

  it("fills what the tile does not cover with the mean colour and the ignore index, wherever the tile lands", () => {
    const tile = chart(4, 4);
    const places = new Set<number>();
    for (let seed = 0; seed < 100; seed++) {
      const { images, labels } = cut(tile, 6, NO_AUGMENTATION, seed, {
        mean: [0.5, 0.5, 0.5],
        std: [0.25, 0.25, 0.25],
      });
      expect(labels.filter((v) => v === 255).length).toBe(36 - 16);
      for (let i = 0; i < 36; i++)
        if (labels[i] === 255) expect([...images.slice(i * 3, i * 3 + 3)]).toEqual([0, 0, 0]);
      places.add(labels.indexOf(0));
    }
    expect(places.size).toBe(9);
  });

  it("ignores every pixel of a tile without labels", () => {
    expect(cut({ ...chart(8, 8), label: null }, 8, ALL, 1).labels.every((v) => v === 255)).toBe(true);
  });

  it("changes colours within the strengths and keeps values in range", () => {
    const image = new Uint8Array(192).fill(100);
    const grey: Tile = { name: "grey", height: 8, width: 8, bands: 3, image, valid: null, label: null };
    const seen = new Set<number>();
    for (let seed = 0; seed < 100; seed++) {
      const { images } = cut(grey, 8, { ...NO_AUGMENTATION, brightness: 0.2, contrast: 0.5, saturation: 0.5 }, seed);
      // A flat grey tile equals its mean: contrast and saturation cannot move it.
      expect(images[0]).toBeGreaterThanOrEqual(80 - 1e-3);
      expect(images[0]).toBeLessThanOrEqual(120 + 1e-3);
      seen.add(Math.round(images[0]!));
      const { images: strong } = cut(
        chart(8, 8),
        8,
        { ...NO_AUGMENTATION, brightness: 1, contrast: 1, saturation: 1 },
        seed,
      );
      expect(strong.every((v) => v >= 0 && v <= 255.001)).toBe(true);
    }
    expect(seen.size).toBeGreaterThan(20);
  });

  it("gives the same bytes for the same seed, and draws as much whatever the options", () => {
    const tile = chart(20, 20);
    expect(cut(tile, 16, ALL, 5)).toEqual(cut(tile, 16, ALL, 5));
    expect(cut(tile, 16, ALL, 5)).not.toEqual(cut(tile, 16, ALL, 6));
    const drawn = [ALL, NO_AUGMENTATION].map((options) => {
      const generator = new Generator(1);
      const target = { images: new Float32Array(16 * 16 * 3), labels: new Uint32Array(16 * 16), slot: 0 };
      cropInto(tile, 16, options, PLAIN, 255, generator, target);
      return generator.state();
    });
    expect(drawn[0]).toEqual(drawn[1]);
  });

  it("places whole tiles in larger slots", () => {
    const images = new Float32Array(2 * 6 * 8 * 3).fill(Number.NaN);
    const tile = chart(5, 7);
    placeInto(tile, 6, 8, PLAIN, images, 0);
    placeInto(tile, 6, 8, PLAIN, images, 1);
    expect(images[(4 * 8 + 6) * 3]).toBeCloseTo(tile.label![34]!, 3);
    expect(images[(4 * 8 + 7) * 3]).toBe(0);
    expect(images[5 * 8 * 3]).toBe(0);
    expect(images.slice(144)).toEqual(images.slice(0, 144));
  });

  it("keeps 16 bits, floats and any number of bands, and leaves out what was not measured", () => {
    const bands = 5;
    const at = (p: number, b: number) => p * 100 + b;
    const values = Array.from({ length: 16 * bands }, (_, i) => at(Math.floor(i / bands), i % bands));
    const cases = [Uint16Array.from(values), Float32Array.from(values)];
    for (const image of cases) {
      const scale = image instanceof Uint16Array ? 65535 : 1;
      const valid = new Uint8Array(16).fill(1);
      valid[5] = 0;
      const label = new Uint8Array(16).fill(1);
      label[5] = 255;
      const tile: Tile = { name: "wide", height: 4, width: 4, bands, image, valid, label };
      const plain = { mean: Array(bands).fill(0), std: Array(bands).fill(1 / scale) };
      const images = new Float32Array(16 * bands).fill(Number.NaN);
      const labels = new Uint32Array(16);
      cropInto(tile, 4, NO_AUGMENTATION, plain, 255, new Generator(1), { images, labels, slot: 0 });
      const whole = new Float32Array(16 * bands).fill(Number.NaN);
      placeInto(tile, 4, 4, plain, whole, 0);
      for (let p = 0; p < 16; p++) {
        expect(labels[p]).toBe(p === 5 ? 255 : 1);
        for (let b = 0; b < bands; b++) {
          const wanted = p === 5 ? 0 : at(p, b);
          expect(Math.abs(images[p * bands + b]! - wanted)).toBeLessThan(1e-2);
          expect(Math.abs(whole[p * bands + b]! - wanted)).toBeLessThan(1e-2);
        }
      }
      // Scaled up, no-data does not bleed into its neighbours.
      const large = new Float32Array(64 * bands);
      const lost = tile.image.slice() as Float32Array;
      lost.fill(image instanceof Float32Array ? Number.NaN : 65535, 5 * bands, 6 * bands);
      const options = { ...NO_AUGMENTATION, scale: [2, 2] as const };
      cropInto({ ...tile, image: lost }, 8, options, plain, 255, new Generator(1), {
        images: large,
        labels: new Uint32Array(64),
        slot: 0,
      });
      expect(large.every((v) => v <= at(15, bands) + 1)).toBe(true);
    }
  });
});
