import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { crc32c, EventFile } from "../../src/train/tensorboard.js";

const folder = mkdtempSync(join(tmpdir(), "lacuna-events-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("CRC-32C has the published check value", () => {
  expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa); // RFC 3720, B.4
});

/** Bit by bit: not the table that is tested. */
function slowCRC(bytes: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let i = 0; i < 8; i++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  return Number(crc ^ 0xffffffffn);
}
const masked = (bytes: Uint8Array): number => {
  const crc = BigInt(slowCRC(bytes));
  return Number((((crc >> 15n) | ((crc << 17n) & 0xffffffffn)) + 0xa282ead8n) & 0xffffffffn);
};

type Field = readonly [number: number, value: number | Uint8Array];
/** Fields of a message, by the wire format. */
function fieldsOf(bytes: Uint8Array): Field[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes[at++]!;
      value += (byte & 127) * factor;
      factor *= 128;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const number = key >> 3;
    if ((key & 7) === 0) fields.push([number, varint()]);
    else if ((key & 7) === 1) {
      fields.push([number, view.getFloat64(at, true)]);
      at += 8;
    } else if ((key & 7) === 5) {
      fields.push([number, view.getFloat32(at, true)]);
      at += 4;
    } else {
      const length = varint();
      fields.push([number, bytes.subarray(at, at + length)]);
      at += length;
    }
  }
  return fields;
}

/** Messages of an event file whose checksums hold. */
function eventsOf(path: string): Field[][] {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const events: Field[][] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    expect(view.getUint32(at + 8, true)).toBe(masked(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(view.getUint32(at + 12 + length, true)).toBe(masked(data));
    events.push(fieldsOf(data));
    at += 16 + length;
  }
  return events;
}
const field = (fields: readonly Field[], number: number) => fields.find(([n]) => n === number)?.[1];
const text = (value: unknown) => new TextDecoder().decode(value as Uint8Array);

test("an event file holds a version, a session start and scalars", () => {
  const file = new EventFile(folder, 1);
  file.scalars(1, { "loss/tversky": 0.5, lambda: -2 });
  file.scalars(3_000_000_000, { lambda: Number.NaN });
  file.scalars(4, {});
  file.sync();
  file.close();
  const [version, start, first, late, ...rest] = eventsOf(file.path);
  expect(rest).toEqual([]);
  expect(text(field(version!, 3))).toBe("brain.Event:2");
  expect([field(start!, 2), field(fieldsOf(field(start!, 7) as Uint8Array), 1)]).toEqual([1, 1]);
  expect(Math.abs((field(first!, 1) as number) - Date.now() / 1000)).toBeLessThan(60);
  const values = fieldsOf(field(first!, 5) as Uint8Array).map(([, value]) => fieldsOf(value as Uint8Array));
  expect(values.map((v) => [text(field(v, 1)), field(v, 2)])).toEqual([
    ["loss/tversky", 0.5],
    ["lambda", -2],
  ]);
  expect(field(late!, 2)).toBe(3_000_000_000);
  expect(field(fieldsOf(fieldsOf(field(late!, 5) as Uint8Array)[0]![1] as Uint8Array), 2)).toBeNaN();
});

test("files of one folder sort in the order in which they were opened", () => {
  const names = Array.from({ length: 3 }, (_, i) => {
    const file = new EventFile(folder, 10 + i);
    file.close();
    return file.path;
  });
  expect([...names].sort()).toEqual(names);
  expect(readdirSync(folder)).toHaveLength(4);
});
