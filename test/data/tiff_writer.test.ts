import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openRaster } from "../../src/data/raster/open.js";
import type { GeoReference, Samples } from "../../src/data/raster/raster.js";
import { readMetadata } from "../../src/data/raster/tiff/metadata.js";
import { type TiffSpec, TiffWriter } from "../../src/data/raster/tiff_writer.js";
import { ArgumentError, DataError } from "../../src/errors.js";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "lacuna-tiff-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const PLAIN: TiffSpec = {
  ...{ width: 300, height: 530, bands: 1, type: "u8", geo: null, rgb: false, noData: null, palette: null },
  ...{ metadata: new Map(), notes: [] },
};
const ARRAYS = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array };
function pixels({ width, height, bands, type }: TiffSpec) {
  const values = Array.from({ length: width * height * bands }, (_, i) => ((i * 2654435761) % 65521) * (i % 5));
  return ARRAYS[type].from(values);
}
async function write(path: string, spec: TiffSpec, rowsAtOnce: number, key = "key") {
  const writer = await TiffWriter.open(path, spec, key);
  const all = pixels(spec);
  const row = spec.width * spec.bands;
  for (let y = writer.rows; y < spec.height; y += rowsAtOnce)
    await writer.write(all.subarray(y * row, (y + rowsAtOnce) * row));
  await writer.finish();
}
async function read(path: string) {
  const raster = await openRaster(path);
  try {
    const { width, height } = raster.info;
    return { info: raster.info, samples: await raster.readWindow({ x: 0, y: 0, width, height }) };
  } finally {
    await raster.close();
  }
}

describe("TiffWriter", () => {
  it.each<[string, Partial<TiffSpec>]>([
    ["8 bits", {}],
    ["8-bit RGB", { bands: 3, rgb: true }],
    ["16 bits of five bands", { bands: 5, type: "u16", noData: 0 }],
    ["floats with NaN for no-data", { type: "f32", bands: 2, noData: Number.NaN }],
    ["exactly one tile", { width: 256, height: 256 }],
    ["one pixel", { width: 1, height: 1 }],
  ])("gives back %s", async (name, change) => {
    const spec = { ...PLAIN, ...change };
    const path = join(root, `${name}.tif`);
    await write(path, spec, 100);
    const { info, samples } = await read(path);
    expect([info.width, info.height, info.bands, info.type]).toEqual([spec.width, spec.height, spec.bands, spec.type]);
    expect(info.noData).toEqual(spec.noData);
    expect(info.colour).toBe(spec.rgb ? "rgb" : "grey");
    const bytes = ({ buffer, byteOffset, byteLength }: Samples) => Buffer.from(buffer, byteOffset, byteLength);
    expect(bytes(samples).equals(bytes(pixels(spec)))).toBe(true);
    expect(readdirSync(root)).toEqual([`${name}.tif`]);
  });

  it.each(["rotated", "point", "u8_lzw_strip", "plain"])("keeps the georeference of %s to the bit", async (name) => {
    const source = fileURLToPath(new URL(`../golden/raster/${name}.tif`, import.meta.url));
    const { geo } = (await read(source)).info;
    const path = join(root, "geo.tif");
    await write(path, { ...PLAIN, geo }, 600);
    const got = (await read(path)).info.geo;
    const plain = (g: GeoReference | null) =>
      g && { ...g, tags: [...g.tags].map(([tag, raw]) => [tag, raw.type, [...raw.bytes]]) };
    expect(plain(got)).toEqual(plain(geo));
  });

  it("writes colours, metadata and what its bands are", async () => {
    const path = join(root, "map.tif");
    const metadata = new Map([["CLASS_0", 'a "quoted" <b> & c']]);
    await write(path, { ...PLAIN, palette: Uint8Array.of(1, 2, 3, 250, 0, 9), metadata, notes: [{ scale: 0.5 }] }, 50);
    const { info } = await read(path);
    expect(info.colour).toBe("palette");
    expect([...info.palette!.slice(0, 9)]).toEqual([1, 2, 3, 250, 0, 9, 0, 0, 0]);
    expect(await readMetadata(path)).toEqual(metadata);
    await expect(TiffWriter.open(path, { ...PLAIN, bands: 2, palette: new Uint8Array(3) }, "")).rejects.toThrow(
      ArgumentError,
    );
  });

  it("goes on behind the rows that are complete, to the same bytes", async () => {
    const [path, other] = [join(root, "whole.tif"), join(root, "parts.tif")];
    await write(path, PLAIN, 530);
    const all = pixels(PLAIN) as Uint8Array;
    const first = await TiffWriter.open(other, PLAIN, "key");
    await first.write(all.subarray(0, 300 * 300)); // one row of tiles, and 44 rows that are lost
    await first.close();
    expect(existsSync(other)).toBe(false);
    appendFileSync(join(root, ".parts.tif.lacuna-part"), "half a tile");
    appendFileSync(join(root, ".parts.tif.lacuna-journal"), '{"offsets":[1'); // cut off in the middle of a line
    const second = await TiffWriter.open(other, PLAIN, "key");
    expect(second.rows).toBe(256);
    await second.write(all.subarray(256 * 300, 512 * 300));
    await second.rewind(300);
    expect(second.rows).toBe(256);
    await second.close();
    await write(other, PLAIN, 61);
    expect(readFileSync(other).equals(readFileSync(path))).toBe(true);
  });

  it("starts afresh for another key, and where the data behind a journal is gone", async () => {
    const path = join(root, "a.tif");
    const begin = async (key: string) => {
      const writer = await TiffWriter.open(path, PLAIN, key);
      const { rows } = writer;
      if (rows === 0) await writer.write((pixels(PLAIN) as Uint8Array).subarray(0, 256 * 300));
      await writer.close();
      return rows;
    };
    expect([await begin("one"), await begin("one"), await begin("two"), await begin("two")]).toEqual([0, 256, 0, 256]);
    writeFileSync(join(root, ".a.tif.lacuna-part"), "short");
    expect(await begin("two")).toBe(0);
  });

  it("refuses rows that do not fit, an early end, and a folder for a file", async () => {
    const writer = await TiffWriter.open(join(root, "x.tif"), PLAIN, "");
    await expect(writer.write(new Uint8Array(299))).rejects.toThrow(ArgumentError);
    await expect(writer.write(new Uint8Array(300 * 531))).rejects.toThrow(ArgumentError);
    await expect(writer.finish()).rejects.toThrow(/0 of 530 rows/);
    await writer.close();
    await expect(TiffWriter.open(root, PLAIN, "")).rejects.toThrow(DataError);
  });
});
