import type { NumberArray, ReferenceOp } from "./kernel.js";
import { between } from "./resize_bilinear.js";

const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));

type Params = Readonly<Record<string, number>>;

interface Pixel {
  /** Its number among the pixels of the large maps of all images. */
  readonly index: number;
  readonly image: number;
  /** Row and column of the large map; rows are counted on from image to image. */
  readonly row: number;
  readonly column: number;
  /** The pixels of the small maps that it lies between, and their weights. */
  readonly corners: readonly (readonly [pixel: number, weight: number])[];
}

/** Every pixel of the large maps. */
function* pixelsOf(p: Params): Generator<Pixel> {
  const { images, h, w, outH, outW } = p as { [K in "images" | "h" | "w" | "outH" | "outW"]: number };
  for (let row = 0; row < images * outH; row++) {
    const image = Math.floor(row / outH);
    const [top, bottom, v] = between(row % outH, h, p.stepH!, p.offsetH!, p.scaleH!);
    for (let column = 0; column < outW; column++) {
      const [left, right, u] = between(column, w, p.stepW!, p.offsetW!, p.scaleW!);
      const at = (iy: number, ix: number) => (image * h + iy) * w + ix;
      const corners = [
        [at(top, left), (1 - v) * (1 - u)],
        [at(top, right), (1 - v) * u],
        [at(bottom, left), v * (1 - u)],
        [at(bottom, right), v * u],
      ] as const;
      yield { index: row * outW + column, image, row, column, corners };
    }
  }
}

/** The upsampled logit of class k at a pixel. */
const logitAt = (logits: NumberArray, { corners }: Pixel, classes: number, k: number): number =>
  corners.reduce((z, [pixel, weight]) => z + weight * logits[pixel * classes + k]!, 0);

/** The slope of class k by its probability at a pixel of this label (0 or 1 for the sigmoid). */
const slopeAt = (p: Params, slopes: NumberArray, image: number, k: number, hit: boolean): number => {
  const unit = p.first_unit! + Math.floor(image / (p.images! / p.units!));
  return slopes[(unit * p.classes! + k) * 2 + (hit ? 0 : 1)]!;
};

/** How tversky.sums_softmax, sums_sigmoid, grad_softmax and grad_sigmoid compose with resize_bilinear. */
export const tverskyUpsampled: ReferenceOp = {
  norm_upsampled(p, [logits], [norm]) {
    for (const pixel of pixelsOf(p)) {
      const z = Array.from({ length: p.classes! }, (_, k) => logitAt(logits!, pixel, p.classes!, k));
      const largest = z.reduce((a, b) => Math.max(a, b));
      norm![2 * pixel.index] = largest;
      norm![2 * pixel.index + 1] = 1 / z.reduce((sum, v) => sum + Math.exp(v - largest), 0);
    }
  },
  sums_upsampled(p, [logits, labels, norm], [partials]) {
    const classes = p.classes!;
    const rows = (p.images! / p.units!) * p.outH!;
    partials!.fill(0);
    for (const pixel of pixelsOf(p)) {
      const unit = Math.floor(pixel.row / rows);
      const chunk = unit * p.chunks! + Math.floor((pixel.row % rows) / p.span!) * p.outW! + pixel.column;
      for (let k = 0; k < classes; k++) {
        const label = labels![p.softmax ? pixel.index : pixel.index * classes + k]!;
        if (label === p.ignore || label >= (p.softmax ? classes : 2)) continue;
        const z = logitAt(logits!, pixel, classes, k);
        const probability = p.softmax
          ? Math.exp(z - norm![2 * pixel.index]!) * norm![2 * pixel.index + 1]!
          : sigmoid(z);
        const at = (chunk * classes + k) * 3;
        if (label === (p.softmax ? k : 1)) {
          partials![at]! += probability;
          partials![at + 2]! += 1;
        } else {
          partials![at + 1]! += probability;
        }
      }
    }
  },
  /** The mean slope Σ p g of a pixel, less the first class's slope of false pixels, and how much its label's is above. */
  mean_upsampled(p, [logits, labels, norm, slopes], [mean]) {
    mean!.fill(0);
    for (const pixel of pixelsOf(p)) {
      const label = labels![pixel.index]!;
      if (label === p.ignore || label >= p.classes!) continue;
      const centre = slopeAt(p, slopes!, pixel.image, 0, false);
      const own = slopeAt(p, slopes!, pixel.image, label, true) - centre;
      for (let k = 0; k < p.classes!; k++) {
        const z = logitAt(logits!, pixel, p.classes!, k);
        const probability = Math.exp(z - norm![2 * pixel.index]!) * norm![2 * pixel.index + 1]!;
        const g = slopeAt(p, slopes!, pixel.image, k, k === label) - centre;
        mean![2 * pixel.index]! += probability * g;
        mean![2 * pixel.index + 1]! += probability * (own - g);
      }
    }
  },
  grad_upsampled(p, [logits, labels, norm, mean, slopes, dy], [dlogits]) {
    const classes = p.classes!;
    dlogits!.fill(0);
    for (const pixel of pixelsOf(p)) {
      for (let k = 0; k < classes; k++) {
        const label = labels![p.softmax ? pixel.index : pixel.index * classes + k]!;
        if (label === p.ignore || label >= (p.softmax ? classes : 2)) continue;
        const z = logitAt(logits!, pixel, classes, k);
        let dz: number; // by the upsampled logit
        if (p.softmax) {
          const probability = Math.exp(z - norm![2 * pixel.index]!) * norm![2 * pixel.index + 1]!;
          const centre = slopeAt(p, slopes!, pixel.image, 0, false);
          const [average, above] = [mean![2 * pixel.index]!, mean![2 * pixel.index + 1]!];
          const others = slopeAt(p, slopes!, pixel.image, k, false) - centre - average;
          dz = probability * (k === label ? above : others);
        } else {
          dz = sigmoid(z) * (1 - sigmoid(z)) * slopeAt(p, slopes!, pixel.image, k, label === 1);
        }
        for (const [corner, weight] of pixel.corners) dlogits![corner * classes + k]! += dy![0]! * weight * dz;
      }
    }
  },
};
