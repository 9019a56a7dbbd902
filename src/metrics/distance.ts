/**
 * Squared Euclidean distance of every pixel to the nearest marked one, exactly: along columns by two scans, then along
 * rows as the lower envelope of parabolas (Felzenszwalb & Huttenlocher 2012, "Distance Transforms of Sampled Functions").
 * Time linear in the number of pixels.
 * @param marked `[height, width]`, not 0 where the distance is 0.
 * @returns `[height, width]`, whole numbers; Infinity everywhere where nothing is marked.
 */
export function squaredDistances(marked: Uint8Array, height: number, width: number): Float64Array {
  const squared = new Float64Array(height * width);
  for (let x = 0; x < width; x++) {
    let above = Number.POSITIVE_INFINITY; // rows since the last marked pixel
    for (let y = 0; y < height; y++) {
      above = marked[y * width + x] ? 0 : above + 1;
      squared[y * width + x] = above;
    }
    let below = Number.POSITIVE_INFINITY;
    for (let y = height - 1; y >= 0; y--) {
      const at = y * width + x;
      below = marked[at] ? 0 : below + 1;
      squared[at] = Math.min(squared[at]!, below) ** 2;
    }
  }
  const centres = new Int32Array(width); // of the parabolas in the envelope, left to right
  const starts = new Float64Array(width); // where each begins to be the lowest
  const row = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    row.set(squared.subarray(y * width, (y + 1) * width));
    let count = 0;
    for (let q = 0; q < width; q++) {
      const height = row[q]!;
      if (height === Number.POSITIVE_INFINITY) continue;
      let start = Number.NEGATIVE_INFINITY;
      while (count > 0) {
        const p = centres[count - 1]!;
        start = (height + q * q - (row[p]! + p * p)) / (2 * (q - p));
        if (start > starts[count - 1]!) break;
        count--;
        start = Number.NEGATIVE_INFINITY;
      }
      centres[count] = q;
      starts[count++] = start;
    }
    if (count === 0) continue; // no marked pixel at all
    for (let x = 0, k = 0; x < width; x++) {
      while (k + 1 < count && starts[k + 1]! < x) k++;
      const p = centres[k]!;
      squared[y * width + x] = (x - p) ** 2 + row[p]!;
    }
  }
  return squared;
}
