import type { Generator } from "../random.js";
import { type Shape, sizeOf } from "../shape.js";

/** How many inputs reach one output of a layer, and how many outputs one input reaches. */
export interface Fans {
  readonly fanIn: number;
  readonly fanOut: number;
}

/** First values of a parameter. Drawn on the host and rounded to f32, so every device starts from the same numbers. */
export type Initialiser = (shape: Shape, generator: Generator, fans: Fans) => Float32Array;

export const constant =
  (value: number): Initialiser =>
  (shape) =>
    new Float32Array(sizeOf(shape)).fill(value);

/** N(0, std²). */
export const normal =
  (std: number): Initialiser =>
  (shape, generator) =>
    generator.normal(sizeOf(shape)).map((z) => z * std);

/** U(-bound, bound). */
export const uniform =
  (bound: number): Initialiser =>
  (shape, generator) =>
    generator.uniform(sizeOf(shape)).map((u) => (2 * u - 1) * bound);

/** N(0, std²) without its tails: values beyond two standard deviations are drawn again (TensorFlow's rule). */
export const truncatedNormal =
  (std: number): Initialiser =>
  (shape, generator) => {
    const values = new Float32Array(sizeOf(shape));
    let filled = 0;
    while (filled < values.length) {
      for (const z of generator.normal(values.length - filled)) if (Math.abs(z) <= 2) values[filled++] = z * std;
    }
    return values;
  };

/** N(0, 2 / fan): keeps the variance through ReLU, forward ("fanIn") or backward ("fanOut"). He et al. 2015. */
export const kaimingNormal =
  (fan: keyof Fans): Initialiser =>
  (shape, generator, fans) =>
    normal(Math.sqrt(2 / fans[fan]))(shape, generator, fans);

/** U(±1 / √fanIn): what PyTorch gives convolutions and linear layers, weights and biases, unless told otherwise. */
export const torchDefault: Initialiser = (shape, generator, fans) =>
  uniform(1 / Math.sqrt(fans.fanIn))(shape, generator, fans);

/** U(±√(6 / (fanIn + fanOut))). Glorot and Bengio 2010. */
export const xavierUniform: Initialiser = (shape, generator, fans) =>
  uniform(Math.sqrt(6 / (fans.fanIn + fans.fanOut)))(shape, generator, fans);
