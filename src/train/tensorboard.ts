import { closeSync, fsyncSync, openSync, readdirSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

/** Scalars by tag: `loss/tversky`. */
export type Scalars = Readonly<Record<string, number>>;

const NAME = /^events\.out\.tfevents\.(\d{10,})\./;

/**
 * Writes event files that TensorBoard reads: records (length, masked CRC-32C of it, data, masked CRC-32C of that) of
 * `tensorflow.Event` messages with a summary of scalars each. Every opening is a new file that begins with a session start
 * at `step`, upon which TensorBoard forgets what earlier files of the folder hold from that step on.
 */
export class EventFile {
  readonly path: string;
  readonly #file: number;

  /** @param step the first that will be written. @throws the system's errors. */
  constructor(folder: string, step: number) {
    // Files are read in the order of their names: a later one needs a later second.
    const earlier = readdirSync(folder).map((name) => Number(NAME.exec(name)?.[1] ?? 0));
    const second = Math.max(Math.floor(Date.now() / 1000), 1 + Math.max(0, ...earlier));
    this.path = join(folder, `events.out.tfevents.${second}.${hostname()}.${process.pid}.lacuna`);
    this.#file = openSync(this.path, "wx");
    this.#write(step, bytesField(3, new TextEncoder().encode("brain.Event:2"))); // file_version
    this.#write(step, bytesField(7, varintField(1, 1))); // session_log { status: START }
  }

  /** Numbers that are not finite are shown as such. */
  scalars(step: number, scalars: Scalars): void {
    const values = Object.entries(scalars).map(([tag, value]) =>
      bytesField(1, joined(bytesField(1, new TextEncoder().encode(tag)), floatField(2, value))),
    );
    if (values.length > 0) this.#write(step, bytesField(5, joined(...values))); // summary { value { tag, simple_value } }
  }

  /** Makes what was written last through a loss of power. */
  sync(): void {
    fsyncSync(this.#file);
  }

  close(): void {
    closeSync(this.#file);
  }

  #write(step: number, what: Uint8Array): void {
    writeAll(this.#file, record(joined(doubleField(1, Date.now() / 1000), varintField(2, step), what)));
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}

function record(data: Uint8Array): Uint8Array {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(data.length), true);
  return joined(length, maskedCRC(length), data, maskedCRC(data));
}

/** TFRecord's masking: a checksum of data that holds checksums is no weak one. */
function maskedCRC(bytes: Uint8Array): Uint8Array {
  const crc = crc32c(bytes);
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0, true);
  return out;
}

/** Castagnoli's polynomial, bits reversed. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (RFC 3720, appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// Protocol buffers' wire format: a key (field number, kind of value), then the value.

function varint(value: number): number[] {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...out, rest];
    out.push((rest % 128) + 128);
  }
}
const varintField = (field: number, value: number): Uint8Array => Uint8Array.from([field << 3, ...varint(value)]);
const bytesField = (field: number, bytes: Uint8Array): Uint8Array =>
  joined(Uint8Array.from([(field << 3) | 2, ...varint(bytes.length)]), bytes);

function doubleField(field: number, value: number): Uint8Array {
  const out = new Uint8Array(9);
  out[0] = (field << 3) | 1;
  new DataView(out.buffer).setFloat64(1, value, true);
  return out;
}
function floatField(field: number, value: number): Uint8Array {
  const out = new Uint8Array(5);
  out[0] = (field << 3) | 5;
  new DataView(out.buffer).setFloat32(1, value, true);
  return out;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
