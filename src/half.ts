const scratch = new DataView(new ArrayBuffer(4));

/** A number as IEEE 754 binary16, rounded to nearest even. Node 20 has no Float16Array. */
export function toHalfBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // rounds beyond 65504, or infinite
  if (magnitude < 0x33000001) return sign; // below half of the least subnormal
  if (magnitude < 0x38800000) {
    // Subnormal: shift the significand, with its implicit one, into place.
    const shift = 126 - (magnitude >>> 23);
    const significand = (magnitude & 0x7fffff) | 0x800000;
    const kept = significand >>> shift;
    const rest = significand & ((1 << shift) - 1);
    const half = 1 << (shift - 1);
    return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

export function fromHalfBits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const significand = bits & 0x3ff;
  if (exponent === 0) return sign * significand * 2 ** -24;
  if (exponent === 31) return significand ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + significand / 1024) * 2 ** (exponent - 15);
}

/** A number as bfloat16 (the upper half of an f32), rounded to nearest even. */
export function toBfloatBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff; // NaN
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBfloatBits(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}
