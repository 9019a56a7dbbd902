const [CLEAR, END, FIRST_FREE, LAST_CODE] = [256, 257, 258, 4095];

/**
 * TIFF 6.0's LZW: codes of 9 to 12 bits, most significant bit first, one bit wider one code early. A code names an older
 * code and one byte, so that chains only lead down: there is no cycle that a crafted file could build.
 * @param out Filled as far as the data goes; what would be beyond it is dropped.
 * @returns bytes written, or null where the data is no LZW.
 */
export function decodeLZW(data: Uint8Array, out: Uint8Array): number | null {
  const prefix = new Uint16Array(LAST_CODE + 1);
  const suffix = new Uint8Array(LAST_CODE + 1);
  const length = new Uint16Array(LAST_CODE + 1);
  for (let i = 0; i < 256; i++) [suffix[i], length[i]] = [i, 1];
  let [next, width] = [FIRST_FREE, 9];
  let previous = -1;
  let [at, bits, held] = [0, 0, 0];
  let written = 0;
  while (written < out.length) {
    while (bits < width) {
      if (at === data.length) return written;
      held = ((held << 8) | data[at++]!) & 0xffffff;
      bits += 8;
    }
    bits -= width;
    const code = (held >> bits) & ((1 << width) - 1);
    if (code === END) return written;
    if (code === CLEAR) {
      [next, width, previous] = [FIRST_FREE, 9, -1];
      continue;
    }
    if (previous < 0) {
      if (code > 255) return null;
      out[written++] = code;
      previous = code;
      continue;
    }
    if (code > next || (code === next && next > LAST_CODE)) return null;
    // The code that is just being made starts with the string before it, and ends in that string's first byte.
    const known = code < next ? code : previous;
    let first = known;
    const size = length[known]!;
    for (let k = written + size - 1, c = known; k >= written; k--) {
      if (k < out.length) out[k] = suffix[c]!;
      first = c;
      c = prefix[c]!;
    }
    written += size;
    const byte = suffix[first]!;
    if (code === next && written < out.length) out[written] = byte;
    if (code === next) written++;
    if (next <= LAST_CODE) {
      prefix[next] = previous;
      suffix[next] = byte;
      length[next] = length[previous]! + 1;
      next++;
      if (next + 1 >= 1 << width && width < 12) width++;
    }
    previous = code;
  }
  return Math.min(written, out.length);
}
