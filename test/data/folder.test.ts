import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FolderDataset, type FolderOptions } from "../../src/data/folder.js";
import { readImage } from "../../src/data/image.js";
import { encodePNG } from "../../src/data/png.js";
import { DataError } from "../../src/errors.js";

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
const grey = (value: number, size = 4) => encodePNG(new Uint8Array(size * size).fill(value), size, size);
const rgb = (value: number, size = 4) => encodePNG(new Uint8Array(size * size * 3).fill(value), size, size);

/** A well-formed set of one tile a split. */
function wellFormed(): void {
  for (const split of ["source/train", "source/val", "target/train", "target/val"]) {
    put(`${split}/images/a.png`, rgb(10));
    if (split !== "target/train") put(`${split}/labels/a.png`, grey(1));
  }
  put("dataset.json", JSON.stringify({ classes: ["background", "road"], ignore: 255 }));
}
const open = (options?: FolderOptions) => FolderDataset.open(root, options);

/** The file that the DataError names, relative to the folder, once it has been thrown. */
async function refused(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => null,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(DataError);
  expect((error as DataError).reason).not.toMatch(/\n/); // one line
  return (error as DataError).file.slice(root.length + 1);
}

describe("FolderDataset", () => {
  it("reads pairs, and no label of target/train", async () => {
    wellFormed();
    put("target/train/labels/other.png", "not even an image"); // never looked at
    const data = await open();
    expect(data.classes).toEqual(["background", "road"]);
    const tile = await data.split("source", "train").read(0);
    expect([tile.name, tile.height, tile.width]).toEqual(["source/train/a", 4, 4]);
    expect([...tile.image]).toEqual(Array(48).fill(10));
    expect([...tile.label!]).toEqual(Array(16).fill(1));
    expect((await data.split("target", "train").read(0)).label).toBeNull();
    await expect(data.split("source", "train").read(1)).rejects.toThrow(RangeError);
  });

  it("sorts tiles by name and pairs across formats", async () => {
    wellFormed();
    const jpeg = await sharp(Buffer.alloc(48, 90), { raw: { width: 4, height: 4, channels: 3 } })
      .jpeg()
      .toBuffer();
    const tiff = await sharp(Buffer.alloc(16, 0), { raw: { width: 4, height: 4, channels: 1 } })
      .toColourspace("b-w")
      .tiff()
      .toBuffer();
    put("source/train/images/Z.JPG", jpeg);
    put("source/train/labels/Z.tif", tiff);
    const tiles = (await open()).split("source", "train");
    const [first, second] = [await tiles.read(0), await tiles.read(1)];
    expect([first.name, second.name]).toEqual(["source/train/Z", "source/train/a"]);
    expect([...first.label!]).toEqual(Array(16).fill(0));
    expect(Math.abs(first.image[0]! - 90)).toBeLessThan(4);
  });

  it.each<[string, () => void, string, FolderOptions?]>([
    ["a missing folder", () => rmSync(root, { recursive: true }), ""],
    [
      "no split at all",
      () => {
        for (const domain of ["source", "target"]) rmSync(join(root, domain), { recursive: true });
      },
      "",
    ],
    ["no classes", () => rmSync(join(root, "dataset.json")), ""],
    ["an image without label", () => put("source/val/images/b.png", rgb(1)), "source/val/images/b.png"],
    ["a label without image", () => put("source/train/labels/b.png", grey(1)), "source/train/labels/b.png"],
    ["two images of one stem", () => put("source/train/images/a.tif", "x"), "source/train/images/a.tif"],
    ["two labels of one stem", () => put("target/val/labels/a.PNG", "x"), "target/val/labels/a.png"],
    ["an empty split", () => rmSync(join(root, "source/train/images/a.png")), "source/train/images"],
    ["no labels folder", () => rmSync(join(root, "target/val/labels"), { recursive: true }), "target/val/labels"],
    ["JSON that is none", () => put("dataset.json", "{"), "dataset.json"],
    ["classes that are no list", () => put("dataset.json", '{"classes":{"__proto__":1}}'), "dataset.json"],
    ["an ignore index that is a class", () => put("dataset.json", '{"classes":["a","b"],"ignore":1}'), ""],
    ["one class", () => {}, "", { classes: ["a"] }],
    ["two classes of one name", () => {}, "", { classes: ["a", "a"] }],
  ])("refuses %s", async (_, spoil, file, options) => {
    wellFormed();
    spoil();
    expect(await refused(open(options))).toBe(file);
  });

  it("refuses a split that is not there", async () => {
    wellFormed();
    rmSync(join(root, "target"), { recursive: true });
    const data = await open();
    expect(() => data.split("target", "val")).toThrow(DataError);
  });

  it("refuses labels that do not fit", async () => {
    wellFormed();
    const label = put("source/train/labels/a.png", grey(2));
    const read = async () => (await open()).split("source", "train").read(0);
    const isRefused = async (bytes: Uint8Array) => {
      writeFileSync(label, bytes);
      expect(await refused(read())).toBe("source/train/labels/a.png");
    };
    await isRefused(grey(2)); // class 2 of 2
    await isRefused(grey(1, 5)); // another size
    await isRefused(rgb(1)); // colours
    const raw = (channels: 1 | 3) => sharp(Buffer.alloc(16 * channels), { raw: { width: 4, height: 4, channels } });
    await isRefused(await raw(3).png({ palette: true }).toBuffer());
    await isRefused(await raw(1).toColourspace("grey16").png().toBuffer());
    await isRefused(await raw(1).toColourspace("b-w").jpeg().toBuffer());
    await isRefused(await raw(1).toColourspace("b-w").png({ palette: true, colours: 2 }).toBuffer()); // 1 bit: 0 and 255
    writeFileSync(label, grey(255));
    expect((await read()).label![0]).toBe(255);
  });

  it("refuses links, FIFOs and folders without waiting", async () => {
    wellFormed();
    put("target/val/images/plain.png", rgb(3));
    const fifo = join(root, "fifo.png");
    execFileSync("mkfifo", [fifo]);
    symlinkSync(join(root, "target/val/images/plain.png"), join(root, "link.png"));
    symlinkSync("loop.png", join(root, "loop.png"));
    mkdirSync(join(root, "folder.png"));
    for (const name of ["fifo.png", "link.png", "loop.png", "folder.png", "missing.png"]) {
      expect(await refused(readImage(join(root, name)))).toBe(name);
    }
  });
});

describe("readImage", () => {
  it("keeps bands and depth, takes alpha as validity, and refuses palettes", async () => {
    expect(await readImage(put("grey.png", grey(7)))).toMatchObject({ bands: 1, valid: null });
    const rgba = Buffer.from(Array.from({ length: 16 }, (_, i) => [1, 2, 3, i % 4]).flat());
    const from = sharp(rgba, { raw: { width: 4, height: 4, channels: 4 } });
    const { bands, image, valid } = await readImage(put("rgba.png", await from.png().toBuffer()));
    expect(bands).toBe(3);
    expect([...image.slice(0, 6)]).toEqual([0, 0, 0, 1, 2, 3]);
    expect([...valid!.slice(0, 4)]).toEqual([0, 1, 1, 1]);
    const deep = await from.clone().removeAlpha().toColourspace("rgb16").png().toBuffer();
    expect((await readImage(put("deep.png", deep))).image).toBeInstanceOf(Uint16Array);
    const palette = await from.clone().removeAlpha().png({ palette: true }).toBuffer();
    expect(await refused(readImage(put("palette.png", palette)))).toBe("palette.png");
    const cmyk = await from.clone().toColourspace("cmyk").jpeg().toBuffer();
    expect(await refused(readImage(put("cmyk.jpg", cmyk)))).toBe("cmyk.jpg");
  });

  it("ignores labels where nothing was measured, and wants one kind of image", async () => {
    wellFormed();
    const pixels = Buffer.from(Array.from({ length: 16 }, (_, i) => [1, 2, 3, i === 0 ? 0 : 255]).flat());
    put(
      "source/train/images/a.png",
      await sharp(pixels, { raw: { width: 4, height: 4, channels: 4 } })
        .png()
        .toBuffer(),
    );
    const data = await open();
    expect([data.bands, data.type]).toEqual([3, "u8"]);
    expect([...(await data.split("source", "train").read(0)).label!]).toEqual([255, ...Array(15).fill(1)]);
    put("source/train/images/b.png", grey(3));
    put("source/train/labels/b.png", grey(1));
    const mixed = (await open()).split("source", "train");
    expect(await refused(mixed.read(1))).toBe("source/train/images/b.png");
  });

  it("refuses other formats and damaged files", async () => {
    const png = Buffer.from(rgb(5, 64));
    const bad: [string, Uint8Array | string][] = [
      ["empty.png", ""],
      ["svg.png", "<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'/>"],
      [
        "gif.png",
        await sharp(Buffer.alloc(48), { raw: { width: 4, height: 4, channels: 3 } })
          .gif()
          .toBuffer(),
      ],
      ["cut.png", png.subarray(0, png.length - 4)],
      ["half.png", png.subarray(0, png.length / 2)],
      ["flip.png", Buffer.from(png.map((b, i) => (i === png.length - 20 ? b ^ 255 : b)))],
    ];
    for (const [name, bytes] of bad) expect(await refused(readImage(put(name, bytes))), name).toBe(name);
  });
});

describe("encodePNG", () => {
  it("is read back by sharp and the same for the same pixels", async () => {
    const pixels = Uint8Array.from({ length: 5 * 3 * 3 }, (_, i) => (i * 37) % 256);
    const file = put("out.png", encodePNG(pixels, 5, 3));
    const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([3, 5, 3]);
    expect([...data]).toEqual([...pixels]);
    expect(readFileSync(file)).toEqual(Buffer.from(encodePNG(pixels, 5, 3)));
    expect(() => encodePNG(pixels, 5, 4)).toThrow(RangeError);
  });
});
