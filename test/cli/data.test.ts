import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encodePNG, FolderDataset } from "../../src/data/index.js";
import { openRaster } from "../../src/data/raster/open.js";
import type { RasterInfo, Samples } from "../../src/data/raster/raster.js";
import { type TiffSpec, TiffWriter } from "../../src/data/raster/tiff_writer.js";
import { lacuna } from "./lacuna.js";

const shared = [process.env.LACUNA_SHARED_DATA, fileURLToPath(new URL("../../../shared/data", import.meta.url))]
  .filter((p) => p !== undefined)
  .find((p) => existsSync(join(p, "roads")));
if (!shared) console.warn("SKIPPED: the shared sets of tiles; LACUNA_SHARED_DATA names the folder with roads/");

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "lacuna-data-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));
const put = (path: string, bytes: Uint8Array | string): string => {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
  return file;
};

/** Noise that differs by seed, and a label of both classes. */
const image = (seed: number, size = 32) =>
  encodePNG(
    Uint8Array.from({ length: size * size * 3 }, (_, i) => ((i + seed * 977) * 2654435761) % 251),
    size,
    size,
  );
const label = (values: (i: number) => number = (i) => i % 2, size = 32) =>
  encodePNG(
    Uint8Array.from({ length: size * size }, (_, i) => values(i)),
    size,
    size,
  );

/** Two sound tiles a split. */
function sound(): void {
  let seed = 0;
  for (const split of ["source/train", "source/val", "target/train", "target/val"]) {
    for (const stem of ["a", "b"]) {
      put(`${split}/images/${stem}.png`, image(++seed));
      if (split !== "target/train") put(`${split}/labels/${stem}.png`, label());
    }
  }
  put("dataset.json", JSON.stringify({ classes: ["ground", "road"] }));
}
async function check(...more: string[]) {
  const { code, stdout } = await lacuna(["data", "check", root, "--json", ...more]);
  const { findings } = JSON.parse(stdout) as {
    findings: { severity: string; code: string; file: string | null; message: string }[];
  };
  return { code, findings };
}

describe("lacuna data check", () => {
  it("finds nothing in a sound set", async () => {
    sound();
    const { code, findings } = await check();
    expect(findings.filter(({ severity }) => severity !== "note")).toEqual([]);
    expect(code).toBe(0);
    const text = await lacuna(["data", "check", root]);
    expect(text.stdout).toMatch(/2 classes \(ground, road\)[\s\S]*source\/train {2}2 tiles of 32 x 32[\s\S]*clean\n$/);
  });

  const jpeg = () =>
    sharp(Buffer.alloc(32 * 32 * 3, 9), { raw: { width: 32, height: 32, channels: 3 } })
      .jpeg()
      .toBuffer();
  it.each<[code: string, severity: string, file: string | null, spoil: () => void | Promise<void>, more?: string[]]>([
    ["unreadable", "error", "source/train/images/a.png", () => void put("source/train/images/a.png", "text")],
    ["unreadable", "error", "source/val/labels/a.png", () => void put("source/val/labels/a.png", label().slice(0, -9))],
    [
      "image-without-label",
      "error",
      "source/train/images/c.png",
      () => void put("source/train/images/c.png", image(50)),
    ],
    ["label-without-image", "error", "target/val/labels/c.png", () => void put("target/val/labels/c.png", label())],
    ["duplicate-stem", "error", null, async () => void put("source/train/images/a.jpg", await jpeg())],
    [
      "size-mismatch",
      "error",
      "source/train/labels/a.png",
      () => void put("source/train/labels/a.png", label(undefined, 16)),
    ],
    [
      "label-values",
      "error",
      "source/train/labels/a.png",
      () =>
        void put(
          "source/train/labels/a.png",
          label((i) => i % 3),
        ),
    ],
    [
      "label-jpeg",
      "error",
      "source/train/labels/a.jpg",
      async () => {
        rmSync(join(root, "source/train/labels/a.png"));
        put("source/train/labels/a.jpg", await jpeg());
      },
    ],
    ["label-colours", "error", "source/train/labels/a.png", () => void put("source/train/labels/a.png", image(3))],
    ["leak", "error", null, () => void put("source/val/images/a.png", image(1))],
    ["duplicate", "warning", null, () => void put("source/train/images/b.png", image(1))],
    [
      "mixed-kinds",
      "error",
      null,
      () =>
        void put(
          "source/train/images/a.png",
          encodePNG(
            new Uint8Array(1024).map((_, i) => i),
            32,
            32,
          ),
        ),
    ],
    [
      "near-constant",
      "warning",
      "source/train/images/a.png",
      () => void put("source/train/images/a.png", encodePNG(new Uint8Array(3072).fill(7), 32, 32)),
    ],
    [
      "all-ignore",
      "warning",
      "source/train/labels/a.png",
      () =>
        void put(
          "source/train/labels/a.png",
          label(() => 255),
        ),
    ],
    [
      "mostly-ignore",
      "warning",
      "source/train/labels/a.png",
      () =>
        void put(
          "source/train/labels/a.png",
          label((i) => (i < 20 ? i % 2 : 255)),
        ),
    ],
    [
      "one-class",
      "note",
      "source/train/labels/a.png",
      () =>
        void put(
          "source/train/labels/a.png",
          label(() => 1),
        ),
    ],
    [
      "absent-class",
      "warning",
      null,
      () => {
        for (const stem of ["a", "b"])
          put(
            `source/train/labels/${stem}.png`,
            label(() => 0),
          );
      },
    ],
    ["no-classes", "error", "dataset.json", () => rmSync(join(root, "dataset.json"))],
    ["description", "error", "dataset.json", () => void put("dataset.json", "{")],
    ["target-labels", "note", "target/train/labels", () => void put("target/train/labels/a.png", "never read")],
    ["crop-size", "warning", null, () => {}, ["--set", "crop=512"]],
    ["aspp-rate", "warning", null, () => {}, ["--set", "crop=32"]],
    ["batch-of-one", "error", null, () => {}, ["--set", "batch.source=1"]],
    ["small-split", "warning", null, () => {}, ["--set", "crop=32"]],
  ])("finds %s (%s)", async (code, severity, file, spoil, more = []) => {
    sound();
    await spoil();
    const { code: exit, findings } = await check(...more);
    const found = findings.find((finding) => finding.code === code);
    expect(found, JSON.stringify(findings)).toBeDefined();
    expect(found!.severity).toBe(severity);
    if (file) expect(found!.file).toBe(join(root, file));
    expect(exit).toBe(findings.some((finding) => finding.severity === "error") ? 3 : 0);
  });

  it("takes the training from a configuration that also names folders", async () => {
    sound();
    const config = put("city.yaml", "data: elsewhere\nmode: self-training\ncrop: 512\n");
    const { findings } = await check("--config", config);
    expect(findings.map(({ code }) => code)).toContain("crop-size");
    expect((await lacuna(["data", "check", root, "--config", put("wrong.yaml", "crops: 5")])).code).toBe(2);
  });

  it("says what a single file is, or why it cannot be read", async () => {
    const file = put("one.png", image(1));
    const { code, stdout } = await lacuna(["data", "check", file]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/one\.png: PNG\n {2}size +32 x 32/);
    const bad = await lacuna(["data", "check", put("two.png", "GIF89a")]);
    expect([bad.code, bad.stderr]).toEqual([3, expect.stringMatching(/two\.png: neither PNG, JPEG nor TIFF/)]);
    expect((await lacuna(["data", "check", join(root, "gone")])).code).toBe(3);
    expect((await lacuna(["data", "fly"])).code).toBe(2);
  });
});

describe.skipIf(!shared)("the shared sets", () => {
  it.each(["roads", "harvey"])("%s has no errors", { timeout: 60_000 }, async (name) => {
    const { code, stdout } = await lacuna(["data", "check", join(shared!, name), "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).splits.map((s: { name: string }) => s.name)).toHaveLength(4);
  });
});

const WHITE = [255, 255, 255];
const BLUE = [0, 0, 255];
const RED = [255, 0, 0];

async function tiff(
  path: string,
  size: number,
  bands: number,
  at: (x: number, y: number) => readonly number[],
  more: Partial<TiffSpec> = {},
) {
  const file = put(path, "");
  rmSync(file);
  const common = {
    geo: null,
    rgb: bands === 3,
    noData: null,
    palette: null,
    metadata: new Map<string, string>(),
    notes: [],
  };
  const writer = await TiffWriter.open(file, { ...common, width: size, height: size, bands, type: "u8", ...more }, "");
  const samples = new Uint8Array(size * size * bands);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) samples.set(at(x, y), (y * size + x) * bands);
  await writer.write(samples);
  await writer.finish();
}
async function read(path: string): Promise<{ info: RasterInfo; samples: Samples }> {
  const raster = await openRaster(join(root, path));
  const { width, height } = raster.info;
  const samples = await raster.readWindow({ x: 0, y: 0, width, height });
  await raster.close();
  return { info: raster.info, samples };
}

const POTSDAM =
  "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12 2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split(
    " ",
  );
/** Potsdam's names, 48 pixels a side; left half building, right half clutter, a column of boundary where eroded. */
async function potsdam(): Promise<void> {
  for (const name of POTSDAM) {
    await tiff(`p/4_Ortho_RGBIR/top_potsdam_${name}_RGBIR.tif`, 48, 4, (x, y) => [x, y, 3, 200 + (x % 50)]);
    await tiff(`p/5_Labels_all/top_potsdam_${name}_label.tif`, 48, 3, (x) => (x < 24 ? BLUE : RED));
  }
}

describe("lacuna data prepare", () => {
  const prepare = (...args: string[]) => lacuna(["data", "prepare", ...args, "--out", join(root, "out")]);

  it("cuts Potsdam: bands, colours, clutter, the organisers' split, a protocol", { timeout: 60_000 }, async () => {
    await potsdam();
    const args = ["potsdam", join(root, "p"), "--tile", "32", "--stride", "16"];
    const { code, stdout, stderr } = await prepare(...args);
    expect([stderr, code]).toEqual(["", 0]);
    expect(stdout).toMatch(/source: 96 tiles to train on, 56 to validate; potsdam-isprs-irrg-full-noclutter-t32\n$/);
    const tile = await read("out/source/train/images/2_10_x16_y0.png");
    expect([...tile.samples.slice(0, 6)]).toEqual([216, 16, 0, 217, 17, 0]); // infrared, red, green
    const truth = await read("out/source/train/labels/2_10_x16_y0.png");
    expect([...truth.samples.slice(0, 32)]).toEqual([...Array(8).fill(1), ...Array(24).fill(255)]);
    const data = await FolderDataset.open(join(root, "out"));
    expect(data.classes).toEqual(["impervious surface", "building", "low vegetation", "tree", "car"]);
    expect(data.protocol).toBe("source: potsdam-isprs-irrg-full-noclutter-t32");
    const manifest = JSON.parse(readFileSync(join(root, "out/source/manifest.json"), "utf8"));
    expect(manifest.tiles).toHaveLength(152);
    expect(manifest.tiles[1]).toMatchObject({
      tile: "train/2_10_x16_y0.png",
      window: { x: 16, y: 0, width: 32, height: 32 },
    });
    expect((await prepare(...args)).stdout).toMatch(/there already/);
    expect((await prepare(...args, "--bands", "rgb")).stderr).toMatch(/by the protocol potsdam-isprs-irrg/);
    expect((await prepare(...args, "--as", "target", "--clutter", "keep")).stderr).toMatch(/has the classes/);
    expect((await prepare(...args, "--as", "target", "--bands", "rgb", "--gsd", "0.1")).code).toBe(0);
    const half = await read("out/target/train/images/2_10_x0_y0.png");
    expect([half.info.width, ...half.samples.slice(0, 4)]).toEqual([24, 1, 1, 3, 3]); // means of 2 x 2: 0.5 and 2.5 rounded up
    expect((await FolderDataset.open(join(root, "out"))).protocol).toMatch(
      /; target: potsdam-isprs-rgb-full-noclutter-gsd0\.1-t32$/,
    );
    expect((await prepare(...args, "--as", "target", "--borders", "eroded")).stderr).toMatch(
      /top_potsdam_2_10_label_noBoundary\.tif/,
    );
  });

  it("names what an archive lacks, and colours that are no class", { timeout: 60_000 }, async () => {
    put("z/5_Labels_all.zip", "PK");
    expect((await prepare("potsdam", join(root, "z"))).stderr).toMatch(/unpack 5_Labels_all\.zip first/);
    expect((await prepare("vaihingen", join(root, "z"), "--bands", "rgb")).stderr).toMatch(/without blue/);
    expect((await prepare("potsdam", join(root, "z"), "--split", "stdasegnet")).stderr).toMatch(/patches only/);
    await potsdam();
    await tiff("p/5_Labels_all/top_potsdam_3_10_label.tif", 48, 3, (x, y) => (x === 5 && y === 7 ? [1, 2, 3] : WHITE));
    const { code, stderr } = await prepare("potsdam", join(root, "p"), "--tile", "48");
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/top_potsdam_3_10_label\.tif: the colour 1, 2, 3 at row 7, column 5/),
    ]);
    expect(existsSync(join(root, "out/source"))).toBe(false);
  });

  it("cuts Vaihingen by both families of splits", { timeout: 60_000 }, async () => {
    const areas = "1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37 2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38".split(
      " ",
    );
    for (const area of areas) {
      await tiff(`v/top/top_mosaic_09cm_area${area}.tif`, 20, 3, (x) => [x, 1, 2]);
      await tiff(`v/gts_eroded/top_mosaic_09cm_area${area}_noBoundary.tif`, 20, 3, (x) =>
        x === 9 ? [0, 0, 0] : WHITE,
      );
    }
    const args = ["vaihingen", join(root, "v"), "--borders", "eroded", "--tile", "20"];
    expect((await prepare(...args)).stdout).toMatch(/16 tiles to train on, 17 to validate/);
    expect((await prepare(...args, "--as", "target", "--split", "stdasegnet")).stdout).toMatch(
      /25 tiles to train on, 8 to validate/,
    );
    const truth = await read("out/source/train/labels/area1_x0_y0.png");
    expect([...truth.samples.slice(7, 12)]).toEqual([0, 0, 255, 0, 0]);
    expect(readdirSync(join(root, "out/target/val/images"))).toContain("area2_x0_y0.png");
  });

  it("cuts LoveDA, whose masks count from 1", async () => {
    for (const [part, place, value] of [
      ["Train", "Rural", 1],
      ["Val", "Rural", 7],
      ["Train", "Urban", 3],
      ["Val", "Urban", 0],
    ] as const) {
      put(`l/${part}/${place}/images_png/5.png`, image(value));
      put(
        `l/${part}/${place}/masks_png/5.png`,
        label(() => value),
      );
    }
    const { stdout, code } = await prepare(
      "loveda",
      join(root, "l"),
      "--source",
      "rural",
      "--target",
      "urban",
      "--tile",
      "32",
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/source: 1 tiles.*loveda-rural-t32\ntarget: 1 tiles.*loveda-urban-t32/);
    const first = async (path: string) => (await read(path)).samples[0];
    expect(await first("out/source/train/labels/rural_5_x0_y0.png")).toBe(0);
    expect(await first("out/source/val/labels/rural_5_x0_y0.png")).toBe(6);
    expect(await first("out/target/val/labels/urban_5_x0_y0.png")).toBe(255);
    put(
      "l/Train/Rural/masks_png/5.png",
      label(() => 9),
    );
    rmSync(join(root, "out"), { recursive: true });
    expect((await prepare("loveda", join(root, "l"), "--source", "rural")).stderr).toMatch(
      /label 9 at row 0, column 0 is no class/,
    );
    expect((await prepare("loveda", join(root, "l"), "--source", "moon")).code).toBe(2);
  });

  it("cuts any scenes: bands kept with their place on Earth, no-data, validation apart", async () => {
    const georeferenced = await openRaster(fileURLToPath(new URL("../golden/raster/point.tif", import.meta.url)));
    const geo = { ...georeferenced.info.geo!, transform: [10, 0.001, 0, 50, 0, -0.001] as const };
    await georeferenced.close();
    await tiff("s/images/city.tif", 96, 5, (x, y) => (y < 32 && x < 32 ? Array(5).fill(0) : [x + 1, y, 1, 2, 3]), {
      geo,
      noData: 0,
    });
    await tiff("s/labels/city.tif", 96, 1, (x) => [x < 40 ? 0 : 1]);
    const args = [
      "tiles",
      "--source",
      join(root, "s"),
      "--classes",
      "ground,road",
      "--tile",
      "32",
      "--bands",
      "1,5",
      "--val-share",
      "0.34",
    ];
    const { stdout, stderr } = await prepare(...args);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/source: 2 tiles to train on, 6 to validate; 1 without a measured pixel left out/);
    const { info, samples } = await read("out/source/val/images/city_x32_y64.tif");
    expect([info.bands, ...samples.slice(0, 4)]).toEqual([2, 33, 3, 34, 3]);
    const place = info.geo!.transform!;
    expect(place[0]).toBeCloseTo(10.032, 12);
    expect(place[3]).toBeCloseTo(50 - 0.064, 12);
    expect(info.geo!.epsg).toBe(4326);
    expect(
      (
        await prepare(
          "tiles",
          "--target",
          join(root, "s"),
          "--classes",
          "ground,road",
          "--gsd",
          "2",
          "--val-share",
          "0",
        )
      ).stderr,
    ).toMatch(/no georeference in metres/);
    put("o/a.png", image(1));
    expect((await prepare("tiles", "--target", join(root, "o"), "--classes", "ground,road")).stdout).toMatch(
      /target: 1 tiles/,
    );
    expect((await prepare("tiles", "--source", join(root, "o"), "--classes", "a,b")).code).toBe(3);
    expect((await prepare("tiles", "--source", join(root, "o"))).stderr).toMatch(/--classes is missing/);
    expect((await prepare("tiles", "--source", join(root, "o"), "--classes", "a,b", "--bands", "1,1")).code).toBe(2);
  });

  it("reads classes off colours that a file names", async () => {
    put("s/images/a.png", image(1));
    const colours = Uint8Array.from(
      { length: 32 * 32 * 3 },
      (_, i) => [RED, BLUE, WHITE][Math.floor(i / 3) % 3]![i % 3]!,
    );
    put("s/labels/a.png", encodePNG(colours, 32, 32));
    const legend = put("legend.json", JSON.stringify({ ground: RED, road: BLUE, ignore: WHITE }));
    const args = ["tiles", "--source", join(root, "s"), "--tile", "32", "--val-share", "0"];
    expect((await prepare(...args, "--colours", legend)).code).toBe(0);
    expect([...(await read("out/source/train/labels/a_x0_y0.png")).samples.slice(0, 3)]).toEqual([0, 1, 255]);
    for (const wrong of ["{", '{"a":[1,2],"b":[1,2,3]}', '{"a":[1,2,3]}']) {
      expect((await prepare(...args, "--colours", put("wrong.json", wrong))).code).toBe(2);
    }
  });
});
