import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodePNG } from "../../src/data/index.js";
import { tinyCities } from "../train/tiny.js";

/** Writes the tiny cities as folders of PNG files. @param description is added to dataset.json. */
export async function writeCities(folder: string, description: object = {}): Promise<void> {
  const cities = tinyCities();
  for (const domain of ["source", "target"] as const) {
    for (const split of ["train", "val"] as const) {
      const tiles = cities.split(domain, split);
      for (const part of ["images", "labels"]) mkdirSync(join(folder, domain, split, part), { recursive: true });
      for (let i = 0; i < tiles.length; i++) {
        const { image, label, height, width } = await tiles.read(i);
        const file = (part: string) => join(folder, domain, split, part, `${i}.png`);
        writeFileSync(file("images"), encodePNG(image as Uint8Array, height, width)); // 8-bit RGB by construction
        if (label) writeFileSync(file("labels"), encodePNG(label, height, width));
      }
    }
  }
  writeFileSync(join(folder, "dataset.json"), JSON.stringify({ classes: cities.classes, ...description }));
}

/** Arguments of `lacuna train` for a network small enough for the reference backend. */
export const trainTiny = (data: string, out: string, ...more: string[]): string[] => [
  ...["train", "--data", data, "--out", out, "--device", "reference", "--mode", "source-only"],
  ...["--crop", "16", "--batch", "2", "--width", "0.125", "--steps", "1"],
  ...["--set", "model.imagePooling=group", "--set", "normalise=source", ...more],
];
