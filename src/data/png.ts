import { crc32, deflateSync } from "node:zlib";

/**
 * Encodes 8-bit pixels as PNG, so that masks and reports need no image library.
 * @param pixels row-major, `height * width` grey values or `height * width * 3` RGB values.
 * @param texts Latin-1 texts by keyword, which `readTexts` gives back.
 */
export function encodePNG(
  pixels: Uint8Array,
  height: number,
  width: number,
  texts: ReadonlyMap<string, string> = new Map(),
): Uint8Array {
  const channels = pixels.length / (height * width);
  if (channels !== 1 && channels !== 3)
    throw new RangeError(`${pixels.length} bytes are not ${height} x ${width} pixels`);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits a channel
  header[9] = channels === 3 ? 2 : 0; // RGB or grey
  const stride = width * channels;
  const rows = Buffer.alloc(height * (stride + 1)); // each row starts with its filter: 0, none
  for (let y = 0; y < height; y++) rows.set(pixels.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1);
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  return Buffer.concat([
    Buffer.from(signature),
    chunk("IHDR", header),
    ...[...texts].map(([name, text]) => chunk("tEXt", Buffer.from(`${name}\0${text}`, "latin1"))),
    chunk("IDAT", deflateSync(rows, { level: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/** Texts of a PNG (its tEXt chunks), by keyword; none where it is no PNG. */
export function readTexts(png: Uint8Array): ReadonlyMap<string, string> {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const texts = new Map<string, string>();
  for (let at = 8; at + 12 <= png.length; at += 12 + view.getUint32(at)) {
    const body = Buffer.from(png.subarray(at + 4, at + 8 + view.getUint32(at))).toString("latin1");
    const split = body.indexOf("\0");
    if (body.startsWith("tEXt") && split > 0) texts.set(body.slice(4, split), body.slice(split + 1));
  }
  return texts;
}
