import { mkdirSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Batch,
  BatchLoader,
  encodePNG,
  FolderDataset,
  LoaderPool,
  type SampleMaker,
} from "../../src/data/index.js";
import { DataError } from "../../src/errors.js";
import { Generator } from "../../src/random.js";

const OPTIONS = {
  crop: 16,
  augment: { flip: true, rotate90: true, scale: [0.5, 2] as const, brightness: 0.3, contrast: 0.3, saturation: 0.3 },
  statistics: { mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2] },
  ignoreIndex: 255,
};

let root: string;
let dataset: FolderDataset;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "lacuna-pool-"));
  for (const domain of ["source", "target"]) {
    for (let i = 0; i < 5; i++) {
      const put = (part: string, bytes: Uint8Array) => {
        const file = join(root, domain, "train", part, `${i}.png`);
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, bytes);
      };
      put(
        "images",
        encodePNG(
          Uint8Array.from({ length: 20 * 20 * 3 }, (_, k) => ((k + i) * 2654435761) % 256),
          20,
          20,
        ),
      );
      put(
        "labels",
        encodePNG(
          Uint8Array.from({ length: 400 }, (_, k) => (k + i) % 2),
          20,
          20,
        ),
      );
    }
  }
  dataset = await FolderDataset.open(root, { classes: ["a", "b"] });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const plans = [
  { domain: "source", options: OPTIONS, seed: 11 },
  { domain: "target", options: OPTIONS, seed: 12 },
] as const;
/** Batches of unequal size of both domains, in turns. */
async function batches(maker: (loader: number) => SampleMaker | null, count = 4): Promise<Batch[]> {
  const loaders = plans.map(
    ({ domain, options, seed }, i) =>
      new BatchLoader(
        dataset.split(domain, "train"),
        { ...options, batch: 3 - i },
        new Generator(seed),
        null,
        maker(i),
      ),
  );
  const all: Batch[] = [];
  for (let i = 0; i < count; i++) for (const loader of loaders) all.push(await loader.next());
  return all;
}

describe("LoaderPool", () => {
  it("makes the same batches with any number of threads, whoever is late", { timeout: 60_000 }, async () => {
    const alone = await batches(() => null);
    expect(alone.map(({ labels }) => labels.length)).toEqual([768, 512, 768, 512, 768, 512, 768, 512]);
    for (const workers of [1, 2, 8]) {
      using pool = new LoaderPool(dataset.origin, plans, workers);
      const late = (loader: number): SampleMaker => ({
        async make(n, choice) {
          await new Promise((resolve) => setTimeout(resolve, (n * 7919) % 13));
          return pool.maker(loader).make(n, choice);
        },
      });
      const made = await batches(late);
      made.forEach(({ images, labels }, i) => {
        expect(Buffer.from(images.buffer).equals(Buffer.from(alone[i]!.images.buffer)), `${workers}: ${i}`).toBe(true);
        expect([...labels]).toEqual([...alone[i]!.labels]);
      });
    }
  });

  it("makes the next batch while the last is worked on", async () => {
    const asked: number[] = [];
    using pool = new LoaderPool(dataset.origin, plans, 1);
    const watched: SampleMaker = {
      make(n, choice) {
        asked.push(n);
        return pool.maker(0).make(n, choice);
      },
    };
    const loader = new BatchLoader(
      dataset.split("source", "train"),
      { ...OPTIONS, batch: 2 },
      new Generator(11),
      null,
      watched,
    );
    await loader.next();
    expect(asked).toEqual([0, 1, 2, 3]);
    loader.position = 6; // a checkpoint elsewhere: what was made ahead is not wanted
    await loader.next();
    expect(asked).toEqual([0, 1, 2, 3, 6, 7, 8, 9]);
    expect(loader.position).toBe(8);
  });

  it("gives a thread's error to the batch that needs the tile, by the tile's name", async () => {
    using pool = new LoaderPool(dataset.origin, plans, 2);
    const choice = { tile: 3, shows: null };
    await pool.maker(0).make(0, choice);
    unlinkSync(join(root, "source/train/images/4.png"));
    const error = await pool
      .maker(0)
      .make(1, { tile: 4, shows: null })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).file).toBe(join(root, "source/train/images/4.png"));
    await expect(pool.maker(0).make(2, choice)).resolves.toBeDefined(); // the others go on
  });

  it("says what a thread had when it died, and refuses to work once it is closed", async () => {
    using pool = new LoaderPool({ kind: "folder", root: join(root, "gone"), options: {} }, plans, 1);
    await expect(pool.maker(0).make(0, { tile: 7, shows: null })).rejects.toThrow(/gone/);
    const wrong = new LoaderPool(dataset.origin, [], 1); // a loader that it does not have ends the thread
    await expect(wrong.maker(0).make(0, { tile: 7, shows: null })).rejects.toThrow(/thread that reads tiles 7 died/);
    wrong.dispose();
    const closed = new LoaderPool(dataset.origin, plans, 1);
    closed.dispose();
    await expect(closed.maker(0).make(0, { tile: 0, shows: null })).rejects.toThrow(/closed/);
  });
});
