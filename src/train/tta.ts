import { ArgumentError } from "../errors.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { add, concat, reshape, resizeBilinear, scale, slice, softmax, transpose } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";

/** One way to look at an image: resized, rows and columns exchanged, then rows and then columns in reverse order. */
export interface View {
  /** Factor on height and width; sizes are rounded to multiples of 16. */
  readonly scale: number;
  readonly transposed: boolean;
  readonly upsideDown: boolean;
  readonly mirrored: boolean;
}

export interface ViewOptions {
  /** Also mirrored left to right. */
  readonly flip?: boolean;
  /** In all four quarter turns. With `flip`: all eight symmetries of the square. */
  readonly rot90?: boolean;
  /** Factors on the size, each from 0.25 to 4; default [1]. */
  readonly scales?: readonly number[];
}

/** The image as it is. */
export const IDENTITY: View = { scale: 1, transposed: false, upsideDown: false, mirrored: false };

/** Sizes of scaled views are multiples of this: every variant and output stride takes such sizes. */
const MULTIPLE = 16;

/**
 * Every combination of scale, flip and turn.
 * @throws ArgumentError for no scales, one twice, or one that is not from 0.25 to 4.
 */
export function viewsOf({ flip = false, rot90 = false, scales = [1] }: ViewOptions = {}): View[] {
  if (scales.length === 0 || new Set(scales).size !== scales.length || !scales.every((s) => s >= 0.25 && s <= 4)) {
    throw new ArgumentError("viewsOf", `scales must be different numbers from 0.25 to 4, not [${scales.join(", ")}]`);
  }
  const view = (transposed: boolean, upsideDown: boolean, mirrored: boolean) => ({ transposed, upsideDown, mirrored });
  const turns = [
    view(false, false, false),
    view(true, true, false), // a quarter turn counter-clockwise
    view(false, true, true), // a half turn
    view(true, false, true), // a quarter turn clockwise
  ];
  const mirror = view(false, false, true);
  const mirroredTurns = [mirror, view(true, false, false), view(false, true, false), view(true, true, true)];
  const symmetries = rot90 ? [...turns, ...(flip ? mirroredTurns : [])] : [turns[0]!, ...(flip ? [mirror] : [])];
  return scales.flatMap((factor) => symmetries.map((symmetry) => ({ scale: factor, ...symmetry })));
}

/**
 * Class probabilities of every pixel, averaged over views (test-time augmentation): each view's logits are brought back
 * to the size of the images, softmax is applied there, and the view undone, as in MMSegmentation's `aug_test`. All on the
 * device; with `IDENTITY` alone, bit for bit softmax of the model's logits.
 *
 * Mirroring costs no arithmetic: see `reversed`.
 * @param images `[n, h, w, bands]`, normalised.
 * @param views at least one. Scaled ones need a model that takes any multiple of 16.
 * @returns `[n, h, w, classes]`, f32; each pixel's sum is 1 within rounding.
 * @throws ArgumentError for no views; ShapeError as the model does.
 */
export function probabilities(
  model: Pick<DeepLabV3Plus, "forward">,
  images: Tensor,
  views: readonly View[] = [IDENTITY],
): Tensor {
  return scope(() => {
    let sum: Tensor | null = null;
    for (const view of views) {
      const before: Tensor | null = sum;
      // A scope a view, so that no more than one view's activations are live.
      sum = scope(() => {
        const seen = throughView(model, images, view);
        return before ? add(before, seen) : seen;
      });
      before?.dispose();
    }
    if (!sum) throw new ArgumentError("probabilities", "there are no views", { images: images.spec });
    return views.length === 1 ? sum : scale(sum, 1 / views.length);
  });
}

function throughView(model: Pick<DeepLabV3Plus, "forward">, images: Tensor, view: View): Tensor {
  const [, h, w] = images.shape as [number, number, number, number];
  const round = (size: number) => Math.max(MULTIPLE, MULTIPLE * Math.round((size * view.scale) / MULTIPLE));
  const size = view.scale === 1 ? ([h, w] as const) : ([round(h), round(w)] as const);
  let x = resized(images, size);
  if (view.transposed) x = transpose(x, [0, 2, 1, 3]);
  if (view.upsideDown) x = reversed(x, 1);
  if (view.mirrored) x = reversed(x, 2);
  // `size` is that of the upright image; on its side, the logits are resized on their side.
  let y = softmax(resized(model.forward(x), view.transposed ? [w, h] : [h, w]));
  if (view.mirrored) y = reversed(y, 2);
  if (view.upsideDown) y = reversed(y, 1);
  return view.transposed ? transpose(y, [0, 2, 1, 3]) : y;
}

const resized = (x: Tensor, [h, w]: readonly [number, number]): Tensor =>
  x.shape[1] === h && x.shape[2] === w ? x : resizeBilinear(x, [h, w], { alignCorners: false });

/** Pieces that one pass cuts an axis into, at most, unless its size has a larger prime factor. */
const PIECES = 8;

/**
 * `x` with one axis in reverse order, by copies alone: values keep their bits. An index along an axis of size f₁·f₂·…
 * has the digits d₁, d₂, … in that mixed radix, and the reverse of it the digits fᵢ − 1 − dᵢ: so each digit is reversed
 * by itself, with fᵢ pieces cut out and joined the other way round. 512 = 8·8·8 takes three passes over the tensor,
 * little beside a network, and no array goes to the host and back.
 */
function reversed(x: Tensor, axis: number): Tensor {
  const size = x.shape[axis]!;
  let outer = x.shape.slice(0, axis).reduce((a, b) => a * b, 1);
  let inner = x.size / outer;
  let y = x;
  for (const factor of factorsOf(size)) {
    inner /= factor;
    const [rows, run] = [outer, inner];
    const flat = reshape(y, [rows, factor, run]);
    const pieces = Array.from({ length: factor }, (_, i) => slice(flat, [0, factor - 1 - i, 0], [rows, 1, run]));
    y = concat(pieces, 1);
    outer *= factor;
  }
  return reshape(y, x.shape);
}

/** Factors of a size, none larger than `PIECES` where its primes allow. */
function factorsOf(size: number): number[] {
  const factors: number[] = [];
  let rest = size;
  for (let prime = 2; rest > 1; ) {
    if (rest % prime !== 0) {
      prime = prime * prime > rest ? rest : prime + 1;
      continue;
    }
    rest /= prime;
    const last = factors.at(-1) ?? Number.POSITIVE_INFINITY;
    if (last * prime <= PIECES) factors[factors.length - 1] = last * prime;
    else factors.push(prime);
  }
  return factors;
}
