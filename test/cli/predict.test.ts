import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Dataset, encodePNG, proceduralDataset } from "../../src/data/index.js";
import { openRaster } from "../../src/data/raster/open.js";
import { TiffWriter } from "../../src/data/raster/tiff_writer.js";
import { open } from "../../src/device.js";
import { train } from "../../src/train/index.js";
import { tiny } from "../train/tiny.js";
import { lacuna } from "./lacuna.js";

const golden = (name: string) => fileURLToPath(new URL(`../golden/raster/${name}`, import.meta.url));
let root: string;
let run: string;
let scene: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "lacuna-predict-"));
  run = join(root, "run");
  using device = await open("reference");
  const dataset: Dataset = proceduralDataset({ size: 20, train: 3, val: 2, seed: 3 });
  using _ = await train({ ...tiny, steps: 1, mode: "source-only" }, { device, dataset, folder: run });
  const rotated = await openRaster(golden("rotated.tif"));
  scene = join(root, "scene.tif");
  const common = { rgb: true, noData: 0, palette: null, metadata: new Map<string, string>(), notes: [] };
  const spec = { ...common, width: 40, height: 600, bands: 3, type: "u8" as const, geo: rotated.info.geo };
  const writer = await TiffWriter.open(scene, spec, "");
  await writer.write(Uint8Array.from({ length: 40 * 600 * 3 }, (_, i) => (i < 120 ? 0 : 1 + ((i * 2654435761) % 250))));
  await writer.finish();
  await rotated.close();
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const COMMON = () => ["--run", run, "--device", "reference", "--window", "64"];

describe("lacuna predict", () => {
  it("writes a map with the scene's georeference, once", async () => {
    const map = join(root, "map.tif");
    const args = ["predict", scene, ...COMMON(), "-o", map, "--probabilities", "--overlay"];
    const first = await lacuna(args);
    expect([first.stderr, first.code]).toEqual(["", 0]);
    const [made, original] = [await openRaster(map), await openRaster(scene)];
    expect(made.info.geo!.transform).toEqual(original.info.geo!.transform);
    expect(made.info.geo!.epsg).toBe(3857);
    expect(made.info).toMatchObject({ width: 40, height: 600, bands: 1, colour: "palette", noData: 255 });
    expect([...(await made.readWindow({ x: 0, y: 0, width: 40, height: 1 }))]).toEqual(Array(40).fill(255));
    await made.close();
    await original.close();
    const overlay = await sharp(join(root, "map.overlay.png")).metadata();
    expect([overlay.width, overlay.height]).toEqual([40, 600]);
    expect(existsSync(join(root, "map.probabilities.tif"))).toBe(true);
    const written = statSync(map).mtimeMs;
    expect((await lacuna(args)).stdout).toMatch(/0 class maps written, 1 already done/);
    expect(statSync(map).mtimeMs).toBe(written);
    const other = await lacuna([...args, "--overlap", "0.5"]);
    expect([other.code, other.stderr]).toEqual([3, expect.stringMatching(/map\.tif: is there already/)]);
    expect((await lacuna([...args, "--overlap", "0.5", "--overwrite"])).code).toBe(0);
    expect(statSync(map).mtimeMs).not.toBe(written);
  });

  it("shares many scenes out, each to one", async () => {
    const images = join(root, "images");
    mkdirSync(images);
    for (const name of ["a", "b", "c", "d", "e"])
      writeFileSync(join(images, `${name}.png`), encodePNG(new Uint8Array(12 * 9 * 3).fill(name.charCodeAt(0)), 9, 12));
    const out = join(root, "shards");
    const shard = (text: string) => lacuna(["predict", "--images", images, ...COMMON(), "--out", out, "--shard", text]);
    expect((await shard("0/2")).code).toBe(0);
    expect(readdirSync(out).sort()).toEqual(["a.png", "c.png", "e.png"]);
    expect((await shard("1/2")).code).toBe(0);
    expect(readdirSync(out).sort()).toEqual(["a.png", "b.png", "c.png", "d.png", "e.png"]);
    expect((await shard("1/2")).stdout).toMatch(/2 already done/);
    for (const wrong of ["2/2", "1", "-1/2", "0/0"]) expect((await shard(wrong)).code).toBe(2);
  });

  it("names what does not fit: bands, depth, palettes, no scene, two outputs", async () => {
    const to = ["-o", join(root, "none.tif")];
    for (const [file, message] of [
      ["u8_lzw_strip.tif", null],
      ["u16_planar_deflate_pred2.tif", /has 5 bands, u16; the model was trained on 3 bands, u8/],
      ["u8_alpha.tif", null],
      ["u8_packbits.tif", /has 1 bands/],
    ] as const) {
      const { code, stderr } = await lacuna([
        "predict",
        golden(file),
        ...COMMON(),
        "-o",
        join(root, `${file}.map.tif`),
      ]);
      expect(code, file).toBe(message ? 3 : 0);
      if (message) expect(stderr).toMatch(message);
    }
    expect((await lacuna(["predict", ...COMMON(), ...to])).code).toBe(2);
    expect((await lacuna(["predict", scene, scene, ...COMMON(), ...to])).code).toBe(2);
    expect((await lacuna(["predict", scene, ...COMMON(), "-o", scene])).code).toBe(2);
    expect((await lacuna(["predict", join(root, "gone.tif"), ...COMMON(), ...to])).code).toBe(3);
    expect((await lacuna(["predict", scene, ...COMMON(), ...to, "--window", "40"])).code).toBe(2);
    expect((await lacuna(["predict", scene, ...COMMON(), ...to, "--overlap", "1"])).code).toBe(2);
    expect(existsSync(join(root, "none.tif"))).toBe(false);
  });

  it("stops at a signal, and goes on to the same map", async () => {
    const [map, whole] = [join(root, "stopped.tif"), join(root, "straight.tif")];
    expect((await lacuna(["predict", scene, ...COMMON(), "-o", whole])).code).toBe(0);
    let sent = false;
    const args = ["predict", scene, ...COMMON(), "-o", map];
    const stopped = await lacuna(
      args,
      () => {},
      () => {
        if (!sent) process.emit("SIGTERM");
        sent = true;
      },
    );
    expect(stopped.code).toBe(143);
    expect(existsSync(map)).toBe(false);
    expect((await lacuna(args)).code).toBe(0);
    expect(readFileSync(map).equals(readFileSync(whole))).toBe(true);
    expect(readdirSync(root).filter((name) => name.startsWith("."))).toEqual([]);
  });
});

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
describe.skipIf(!existsSync(main))("a killed prediction", () => {
  it("leaves no half map, and goes on to the same one", { timeout: 180_000 }, async () => {
    const [map, whole] = [join(root, "killed.tif"), join(root, "unhurt.tif")];
    const args = (to: string) => [main, "predict", scene, ...COMMON(), "-o", to];
    const start = (to: string, milliseconds: number | null) =>
      new Promise<NodeJS.Signals | number | null>((resolve) => {
        const child = spawn(process.execPath, args(to), { stdio: "ignore" });
        const timer = milliseconds === null ? null : setTimeout(() => child.kill("SIGKILL"), milliseconds);
        child.on("exit", (code, signal) => {
          if (timer) clearTimeout(timer);
          resolve(signal ?? code);
        });
      });
    const begun = performance.now();
    expect(await start(whole, null)).toBe(0);
    const took = performance.now() - begun;
    for (const share of [0.5, 0.75, 0.9]) {
      const end = await start(map, took * share);
      if (end === "SIGKILL") expect(existsSync(map)).toBe(false);
    }
    expect(await start(map, null)).toBe(0);
    expect(readFileSync(map).equals(readFileSync(whole))).toBe(true);
  });
});
