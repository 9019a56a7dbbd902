/** Bytes in pieces, so that weights are not copied on their way to a file. */
export interface Piece {
  readonly length: number;
  readonly parts: readonly Uint8Array[];
}

// Wire types: how a reader that does not know a field finds its end.
const VARINT = 0;
const DELIMITED = 2;
const FIXED32 = 5;

const piece = (...parts: Uint8Array[]): Piece => ({ length: parts.reduce((sum, part) => sum + part.length, 0), parts });

/** Seven bits a byte, the lowest first, the eighth saying that more follow; negative numbers as 64-bit two's complement. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return bytes;
}

const key = (field: number, wire: number): number[] => varint((field << 3) | wire);

/** An int64, int32 or enum. */
export const integer = (field: number, value: number): Piece =>
  piece(Uint8Array.from([...key(field, VARINT), ...varint(value)]));

/** A float. */
export function float(field: number, value: number): Piece {
  const four = new Uint8Array(4);
  new DataView(four.buffer).setFloat32(0, value, true);
  return piece(Uint8Array.from(key(field, FIXED32)), four);
}

/** A string, or bytes as they are. */
export function bytes(field: number, content: string | Uint8Array): Piece {
  const raw = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return piece(Uint8Array.from([...key(field, DELIMITED), ...varint(raw.length)]), raw);
}

/** A message inside a message. */
export function message(field: number, ...content: readonly Piece[]): Piece {
  const inside = concat(...content);
  const head = Uint8Array.from([...key(field, DELIMITED), ...varint(inside.length)]);
  return { length: head.length + inside.length, parts: [head, ...inside.parts] };
}

/** Fields one after the other: the content of a message. */
export const concat = (...content: readonly Piece[]): Piece => ({
  length: content.reduce((sum, { length }) => sum + length, 0),
  parts: content.flatMap(({ parts }) => parts),
});
