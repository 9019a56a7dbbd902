import type { Backend } from "../backends/backend.js";
import { ArgumentError, DisposedError, ShapeError } from "../errors.js";
import type { Generator } from "../random.js";
import { type Shape, sizeOf, type TensorData } from "../shape.js";
import { Tensor, withoutScope } from "../tensor.js";

/** Where a parameter will live, and the random numbers its first values come from. */
interface Place {
  readonly device: Backend;
  readonly generator: Generator;
}

/**
 * An array a module owns: trained by an optimiser, or (`trainable` false) a running statistic. It is declared first, as
 * a shape and a rule for its first values; the tensor is made on the device when it is first asked for. So a model can
 * be described, counted and filled from a checkpoint without its random values ever being drawn.
 */
export class Parameter {
  readonly #initial: (generator: Generator) => ArrayLike<number>;
  #place: Place | null = null;
  #tensor: Tensor | null = null;
  #disposed: boolean;

  constructor(
    readonly shape: Shape,
    initial: (generator: Generator) => ArrayLike<number>,
    readonly trainable = true,
  ) {
    this.#initial = initial;
    this.#disposed = false;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** @internal Says where the tensor is to be made; the first call holds. */
  place(device: Backend, generator: () => Generator): void {
    this.#place ??= { device, generator: generator() };
  }

  /**
   * The f32 tensor, the same one at every call.
   * @throws ArgumentError where the module was never placed on a device; DisposedError after `dispose()`.
   */
  get tensor(): Tensor {
    return (this.#tensor ??= this.#make((generator) => this.#initial(generator)));
  }

  /**
   * Overwrites the values, in row-major order; draws no random numbers where the tensor did not exist yet.
   * @throws ShapeError where the number of values is not the product of the shape.
   */
  assign(values: ArrayLike<number>): void {
    if (values.length !== this.size) {
      throw new ShapeError("assign", `${values.length} values do not fill the parameter`, {
        parameter: { shape: this.shape, dtype: "f32" },
      });
    }
    if (this.#tensor) this.#tensor.assign(values);
    else this.#tensor = this.#make(() => values);
  }

  /** Copies the values to JavaScript, in row-major order. */
  async data(): Promise<TensorData> {
    return this.tensor.data();
  }

  dispose(): void {
    this.#disposed = true;
    this.#tensor?.dispose();
  }

  #make(values: (generator: Generator) => ArrayLike<number>): Tensor {
    const spec = { shape: this.shape, dtype: "f32" } as const;
    if (this.#disposed) throw new DisposedError("parameter", "used after its module was disposed", { parameter: spec });
    if (!this.#place) {
      throw new ArgumentError("parameter", "its module was never placed on a device: call place(device, seed)", {
        parameter: spec,
      });
    }
    const { device, generator } = this.#place;
    return withoutScope(() => Tensor.from(device, values(generator), this.shape));
  }
}
