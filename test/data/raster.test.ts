import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRaster } from "../../src/data/raster/open.js";
import { type Raster, type RasterInfo, type Samples, validityOf } from "../../src/data/raster/raster.js";
import { decodeLZW } from "../../src/data/raster/tiff/lzw.js";
import { DataError } from "../../src/errors.js";
import { Generator } from "../../src/random.js";

const golden = (path: string): string => fileURLToPath(new URL(`../golden/${path}`, import.meta.url));
const shared = [process.env.LACUNA_SHARED_DATA, fileURLToPath(new URL("../../../shared/data", import.meta.url))]
  .filter((p) => p !== undefined)
  .find((p) => existsSync(join(p, "geotiff")));
if (!shared) console.warn("SKIPPED: GeoTIFFs of the shared data; LACUNA_SHARED_DATA names the folder with geotiff/");

/** What GDAL 3.6.2 reads in a file (test/golden/raster.py, and the shared data's expected.json). */
interface Answer {
  readonly file: string;
  readonly error?: string;
  readonly size: readonly [number, number];
  readonly bands: number;
  readonly type: string;
  readonly epsg?: number | null;
  readonly geoTransform?: readonly number[] | null;
  readonly nodata?: number | string | null;
  readonly alphaBand?: number | null;
  readonly overviews?: readonly (readonly [number, number])[];
  readonly sha256?: string;
  readonly sha256_bip?: string;
}
const TYPES: Readonly<Record<string, RasterInfo["type"]>> = {
  ...{ Byte: "u8", UInt16: "u16", Int16: "i16", UInt32: "u32", Int32: "i32", Float32: "f32", Float64: "f64" },
};
const answers = (file: string) => JSON.parse(readFileSync(file, "utf8")) as Answer[];

const whole = ({ width, height }: RasterInfo) => ({ x: 0, y: 0, width, height });
const hash = (s: Samples) =>
  createHash("sha256")
    .update(new Uint8Array(s.buffer, s.byteOffset, s.byteLength))
    .digest("hex");

async function opened<T>(file: string, use: (raster: Raster) => Promise<T>): Promise<T> {
  const raster = await openRaster(file);
  try {
    return await use(raster);
  } finally {
    await raster.close();
  }
}
const readAll = (file: string) =>
  opened(file, async (r) => ({ info: r.info, samples: await r.readWindow(whole(r.info)) }));

/** Everything of a file that GDAL's answer names, or the reason why it is refused. */
async function compare(file: string, answer: Answer): Promise<string | null> {
  let read: { info: RasterInfo; samples: Samples };
  try {
    read = await readAll(file);
  } catch (error) {
    expect(error, answer.file).toBeInstanceOf(DataError);
    return (error as DataError).reason;
  }
  const { info, samples } = read;
  expect([info.width, info.height, info.bands, info.type], answer.file).toEqual([
    ...answer.size,
    answer.bands,
    TYPES[answer.type],
  ]);
  expect(hash(samples), answer.file).toBe(answer.sha256 ?? answer.sha256_bip);
  expect(info.geo?.epsg ?? null, answer.file).toBe(answer.epsg ?? null);
  expect(info.noData, answer.file).toEqual(answer.nodata === "nan" ? Number.NaN : (answer.nodata ?? null));
  const [transform, wanted] = [info.geo?.transform ?? null, answer.geoTransform ?? null];
  expect(transform === null, answer.file).toBe(wanted === null);
  for (let i = 0; wanted && i < 6; i++) expect(transform![i], answer.file).toBeCloseTo(wanted[i]!, 9);
  if (answer.alphaBand !== undefined) expect(info.alphaBand, answer.file).toBe(answer.alphaBand);
  if (answer.overviews) expect(info.overviews.map(({ width, height }) => [width, height])).toEqual(answer.overviews);
  return null;
}

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "lacuna-raster-"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
const put = (name: string, bytes: Uint8Array): string => {
  const file = join(root, name);
  writeFileSync(file, bytes);
  return file;
};

describe("GeoTIFFs that GDAL wrote", () => {
  const fixtures = answers(golden("raster.json"));

  it.each(fixtures)("reads $file as GDAL does", async (answer) => {
    expect(await compare(golden(`raster/${answer.file}`), answer)).toBeNull();
  });

  it.each(fixtures)("cuts windows out of $file that equal the whole's", async ({ file }) => {
    await opened(golden(`raster/${file}`), async (raster) => {
      const { info } = raster;
      const { width, height, bands } = info;
      const all = await raster.readWindow(whole(info));
      for (const [x, y, w, h] of [
        [0, 0, 1, 1],
        [15, 15, 2, 2],
        [3, 7, 30, 20],
        [width - 1, height - 1, 1, 1],
        [0, 28, 37, 1],
      ]) {
        const cut = await raster.readWindow({ x: x!, y: y!, width: w!, height: h! });
        const wanted: number[] = [];
        for (let r = y!; r < y! + h!; r++)
          wanted.push(...all.subarray((r * width + x!) * bands, (r * width + x! + w!) * bands));
        expect([...cut]).toEqual(wanted);
      }
      await expect(raster.readWindow({ x: 1, y: 0, width, height })).rejects.toThrow(RangeError);
      await expect(raster.readWindow({ x: 0, y: 0, width: 0, height: 1 })).rejects.toThrow(RangeError);
    });
  });

  it("reads overviews as images of their own", async () => {
    await opened(golden("raster/overviews.tif"), async (raster) => {
      const [{ width, height }] = raster.info.overviews as [{ width: number; height: number }];
      const small = await raster.readWindow({ x: 0, y: 0, width, height }, 0);
      const full = await raster.readWindow(whole(raster.info));
      // Nearest: each pixel is one of those that it stands for.
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const near = [-1, 0, 1].flatMap((dy) =>
            [-1, 0, 1].map((dx) => full[(2 * y + dy) * raster.info.width + 2 * x + dx]),
          );
          expect(near).toContain(small[y * width + x]);
        }
      }
      await expect(raster.readWindow({ x: 0, y: 0, width: 1, height: 1 }, 9)).rejects.toThrow(RangeError);
    });
  });

  it("keeps the tags of the georeference", async () => {
    await opened(golden("raster/rotated.tif"), async ({ info }) => {
      expect([...info.geo!.tags.keys()]).toEqual([34264, 34735, 34737]);
      const matrix = info.geo!.tags.get(34264)!;
      expect([matrix.type, matrix.count]).toEqual([12, 16]);
      expect(new DataView(matrix.bytes.slice().buffer).getFloat64(0, true)).toBeCloseTo(0.4330127018922193, 15);
    });
  });
});

describe("which pixels were measured", () => {
  const info = { bands: 2, noData: null, alphaBand: null } as RasterInfo;
  it("leaves out no-data in every band, NaN in any, and where alpha is 0", () => {
    expect(validityOf(info, Uint8Array.of(0, 0, 1, 2))).toBeNull();
    expect([...validityOf({ ...info, noData: 0 }, Uint8Array.of(0, 0, 0, 2, 1, 1))!]).toEqual([0, 1, 1]);
    expect([...validityOf({ ...info, alphaBand: 1 }, Uint8Array.of(5, 0, 0, 2))!]).toEqual([0, 1]);
    expect([...validityOf(info, Float32Array.of(1, Number.NaN, 1, 2))!]).toEqual([0, 1]);
    expect([
      ...validityOf({ ...info, noData: Math.fround(-3.4e38) }, Float32Array.of(-3.4e38, -3.4e38, 1, 2))!,
    ]).toEqual([0, 1]);
    expect([...validityOf({ ...info, noData: Number.NaN }, Float32Array.of(Number.NaN, 1, 1, 2))!]).toEqual([0, 1]);
  });
});

describe.skipIf(!shared)("the shared GeoTIFFs", () => {
  const UNSUPPORTED = { "u1_mask_ccitt4.tif": /CCITT/, "u8_rgb_lerc.tif": /LERC/, "u8_rgb_lzma_strip.tif": /LZMA/ };

  it("reads 29 of the matrix's 32 files exactly, and refuses 3 by the name of their compression", async () => {
    const folder = join(shared!, "geotiff/matrix");
    let exact = 0;
    for (const answer of answers(join(folder, "expected.json"))) {
      const reason = await compare(join(folder, answer.file), answer);
      if (reason === null) exact++;
      else expect(reason).toMatch(UNSUPPORTED[answer.file as keyof typeof UNSUPPORTED]);
    }
    expect(exact).toBe(29);
  });

  it("reads the real ones as GDAL does, but for a damaged one and one that lies about its format", async () => {
    const refused: string[] = [];
    for (const answer of answers(golden("raster_real.json"))) {
      if (answer.error) {
        await expect(readAll(join(shared!, "geotiff/real", answer.file))).rejects.toThrow(DataError);
        refused.push(answer.file);
      } else if (await compare(join(shared!, "geotiff/real", answer.file), answer)) refused.push(answer.file);
    }
    expect(refused).toEqual(["corrupt.tif", "jpeg_named_tif_with_aux.tif"]);
  });
});

/** A little-endian TIFF of 4 x 4 pixels, 8-bit grey, in one strip; entries may be replaced or left out. */
function tiff(
  entries: Readonly<Record<number, [type: number, count: number, value: number] | null>>,
  strip: Uint8Array,
) {
  const all: Record<number, [number, number, number] | null> = {
    ...{ 256: [3, 1, 4], 257: [3, 1, 4], 258: [3, 1, 8], 259: [3, 1, 1], 262: [3, 1, 1], 273: [4, 1, 400] },
    ...{ 277: [3, 1, 1], 278: [3, 1, 4], 279: [4, 1, strip.length] },
    ...entries,
  };
  const tags = Object.keys(all)
    .map(Number)
    .filter((tag) => all[tag])
    .sort((a, b) => a - b);
  const bytes = Buffer.alloc(400 + strip.length);
  bytes.write("II*\0", 0, "latin1");
  bytes.writeUInt32LE(8, 4);
  bytes.writeUInt16LE(tags.length, 8);
  tags.forEach((tag, i) => {
    const [type, count, value] = all[tag]!;
    bytes.writeUInt16LE(tag, 10 + i * 12);
    bytes.writeUInt16LE(type, 12 + i * 12);
    bytes.writeUInt32LE(count, 14 + i * 12);
    bytes.writeUInt32LE(value, 18 + i * 12);
  });
  bytes.set(strip, 400);
  return bytes;
}
const PIXELS = Uint8Array.from({ length: 16 }, (_, i) => i * 3);

describe("hostile TIFFs", () => {
  it("starts from one that is sound", async () => {
    expect([...(await readAll(put("sound.tif", tiff({}, PIXELS)))).samples]).toEqual([...PIXELS]);
    const packed = tiff({ 259: [3, 1, 8] }, deflateSync(PIXELS));
    expect([...(await readAll(put("packed.tif", packed))).samples]).toEqual([...PIXELS]);
  });

  const withLoop = tiff({}, PIXELS);
  withLoop.writeUInt32LE(8, 10 + 9 * 12); // the directory names itself as the next one
  it.each<[string, Uint8Array, RegExp]>([
    ["a loop of directories", withLoop, /loop/],
    ["a directory beyond the end", Buffer.from("II*\0\xff\xff\xff\x7f", "latin1"), /beyond the end/],
    ["a header alone", Buffer.from("II*\0", "latin1"), /cut off/],
    ["no width", tiff({ 256: [3, 1, 0] }, PIXELS), /width is 0/],
    ["no rows a strip", tiff({ 278: [3, 1, 0] }, PIXELS), /rows a strip is 0/],
    ["33 bits", tiff({ 258: [3, 1, 33] }, PIXELS), /33 bits/],
    ["65,535 bands", tiff({ 277: [3, 1, 65535] }, PIXELS), /bands is 65535/],
    ["an unknown compression", tiff({ 259: [3, 1, 9999] }, PIXELS), /9999/],
    ["4 G of strips", tiff({ 273: [4, 0xffffffff, 400] }, PIXELS), /4294967295 values/],
    ["too few strips", tiff({ 257: [4, 1, 4000] }, PIXELS), /1000 strips or tiles are needed, 1/],
    ["a strip beyond the end", tiff({ 273: [4, 1, 1e9] }, PIXELS), /strip 0 .* beyond the end/],
    ["a strip that is too short", tiff({ 279: [4, 1, 15] }, PIXELS), /strip 0 is cut off/],
    [
      "one strip of a terabyte",
      tiff({ 256: [4, 1, 1e6], 257: [4, 1, 1e6], 278: [4, 1, 1e6] }, PIXELS),
      /more than 256 MiB/,
    ],
    ["a bomb", tiff({ 259: [3, 1, 8] }, deflateSync(Buffer.alloc(1 << 22))), /strip 0 is damaged/],
    ["no LZW", tiff({ 259: [3, 1, 5] }, Uint8Array.of(0xff, 0xff, 0xff)), /strip 0 is damaged/],
    ["text for a width", tiff({ 256: [2, 2, 52] }, PIXELS), /tag 256 should hold numbers/],
    ["an unknown type", tiff({ 256: [99, 1, 4] }, PIXELS), /unknown type 99/],
    ["no place for its pixels", tiff({ 273: null }, PIXELS), /does not say where/],
    ["differences of bits", tiff({ 317: [3, 1, 2], 258: [3, 1, 4] }, PIXELS), /predictor 2/],
    ["CMYK", tiff({ 262: [3, 1, 5] }, PIXELS), /CMYK/],
  ])("refuses %s", async (name, bytes, reason) => {
    const file = put(`${name}.tif`, bytes);
    const error = await readAll(file).then(
      () => null,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).file).toBe(file);
    expect((error as DataError).reason).toMatch(reason);
  });

  it("answers to damaged bytes with samples of the size it names, or with a DataError", async () => {
    const chance = new Generator(7);
    const seeds = [
      "u8_lzw_pred2_tile",
      "u16_planar_deflate_pred2",
      "i16_bigtiff",
      "f32_pred3",
      "u12",
      "overviews",
      "u8_packbits",
    ];
    let [read, refused] = [0, 0];
    for (const seed of seeds) {
      const sound = readFileSync(golden(`raster/${seed}.tif`));
      for (let round = 0; round < 60; round++) {
        const bytes = Buffer.from(sound);
        const [count, ...words] = chance.u32(12);
        for (let i = 0; i <= count! % 4; i++) {
          // Half of the damage is where the directory stands: at the front, as GDAL writes it.
          const range = words[i]! % 2 === 0 ? bytes.length : Math.min(bytes.length, 500);
          bytes[words[i + 4]! % range] = words[i + 7]! % 256;
        }
        const file = put(`mutant.tif`, round % 10 === 0 ? bytes.subarray(0, count! % bytes.length) : bytes);
        try {
          const { info, samples } = await opened(file, async (r) => {
            const window = { x: 0, y: 0, width: Math.min(64, r.info.width), height: Math.min(64, r.info.height) };
            return { info: { ...r.info, ...window }, samples: await r.readWindow(window) };
          });
          expect(samples.length).toBe(info.width * info.height * info.bands);
          read++;
        } catch (error) {
          expect(error, `${seed} ${round}: ${String(error)}`).toBeInstanceOf(DataError);
          refused++;
        }
      }
    }
    expect(read + refused).toBe(seeds.length * 60);
    expect(Math.min(read, refused)).toBeGreaterThan(50);
  });
});

describe("LZW", () => {
  it("reads TIFF 6.0's example, and drops what is beyond the output", () => {
    // 7 7 7 8 8 7 7 6 6: codes 256 7 258 8 8 258 6 6 257 of 9 bits
    const codes = [256, 7, 258, 8, 8, 258, 6, 6, 257];
    const bits = codes.map((code) => code.toString(2).padStart(9, "0")).join("");
    const data = Uint8Array.from(bits.match(/.{1,8}/g)!, (byte) => Number.parseInt(byte.padEnd(8, "0"), 2));
    const out = new Uint8Array(9);
    expect(decodeLZW(data, out)).toBe(9);
    expect([...out]).toEqual([7, 7, 7, 8, 8, 7, 7, 6, 6]);
    const short = new Uint8Array(4);
    expect(decodeLZW(data, short)).toBe(4);
    expect([...short]).toEqual([7, 7, 7, 8]);
  });
});

describe("PNG and JPEG", () => {
  const pixels = (channels: 1 | 2 | 3 | 4) => {
    const data = Buffer.from(Array.from({ length: 6 * 4 * channels }, (_, i) => (i * 11) % 256));
    return sharp(data, { raw: { width: 6, height: 4, channels } });
  };

  it("keeps channels and depth", async () => {
    const rgba = await readAll(put("rgba.png", await pixels(4).png().toBuffer()));
    expect([rgba.info.bands, rgba.info.alphaBand, rgba.info.type]).toEqual([4, 3, "u8"]);
    expect([...rgba.samples].slice(0, 4)).toEqual([0, 11, 22, 33]);
    const grey = await readAll(put("grey.png", await pixels(1).toColourspace("b-w").png().toBuffer()));
    expect([grey.info.bands, grey.info.colour]).toEqual([1, "grey"]);
    expect([...grey.samples].slice(0, 3)).toEqual([0, 11, 22]);
    const deep = Uint16Array.from({ length: 72 }, (_, i) => i * 911);
    const wide = sharp(Buffer.from(deep.buffer), {
      raw: { width: 6, height: 4, channels: 3, depth: "ushort" } as never,
    });
    const file = put("wide.png", await wide.toColourspace("rgb16").png().toBuffer());
    const { info, samples } = await readAll(file);
    expect([info.bands, info.type, info.bits]).toEqual([3, "u16", 16]);
    const window = await opened(file, (r) => r.readWindow({ x: 2, y: 1, width: 3, height: 2 }));
    expect([...window.subarray(0, 9)]).toEqual([...samples.subarray(24, 33)]);
    expect(new Set(samples).size).toBeGreaterThan(60); // 8 bits would have left fewer
  });

  it("refuses by rule what is no measurement, is turned, or says another name than it is", async () => {
    const cases: [string, Uint8Array, RegExp][] = [
      ["palette.png", await pixels(3).png({ palette: true }).toBuffer(), /palette/],
      ["cmyk.jpg", await pixels(3).toColourspace("cmyk").jpeg().toBuffer(), /CMYK/],
      ["turned.jpg", await pixels(3).withMetadata({ orientation: 6 }).jpeg().toBuffer(), /orientation 6/],
      ["jpeg.png", await pixels(3).jpeg().toBuffer(), /its name says PNG, but it is a JPEG/],
      ["gif.png", await pixels(3).gif().toBuffer(), /neither PNG, JPEG nor TIFF/],
    ];
    for (const [name, bytes, reason] of cases) await expect(readAll(put(name, bytes)), name).rejects.toThrow(reason);
    const long = await pixels(3).png().toBuffer();
    const text = Buffer.concat([Buffer.from("zTXtComment\0\0", "latin1"), deflateSync(Buffer.alloc(1 << 21))]);
    const chunk = Buffer.alloc(text.length + 8);
    chunk.writeUInt32BE(text.length - 4, 0);
    text.copy(chunk, 4);
    const bomb = Buffer.concat([long.subarray(0, 33), chunk, long.subarray(33)]);
    await expect(readAll(put("text.png", bomb))).rejects.toThrow(/zTXt chunk unfolds/);
  });
});

describe.skipIf(!shared)("the corpus of bad images", () => {
  /** Sound after all, and read as what they are. */
  const SOUND = ["jpg_gray.jpg", "png_16bit.png", "png_rgba.png"];

  it("is refused by name, file by file, in bounded memory", async () => {
    const folder = join(shared!, "bad");
    const accepted: string[] = [];
    for (const name of readdirSync(folder).sort()) {
      const error = await readAll(join(folder, name)).then(
        () => null,
        (e: unknown) => e,
      );
      if (error === null) accepted.push(basename(name));
      else {
        expect(error, name).toBeInstanceOf(DataError);
        expect((error as DataError).file).toBe(join(folder, name));
        expect((error as DataError).reason).not.toMatch(/\n/);
      }
    }
    expect(accepted).toEqual(SOUND);
    expect(process.resourceUsage().maxRSS).toBeLessThan(700 * 1024); // kB; decoding one of the bombs takes 800 MB
  });
});
