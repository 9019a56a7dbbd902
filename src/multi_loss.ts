import type { Backend } from "./backends/backend.js";
import { ArgumentError, DTypeError, ShapeError } from "./errors.js";
import { add, scale } from "./ops/elementwise.js";
import { addWeightedLoss, SMALLEST_VARIANCE } from "./ops/multi_loss.js";
import { scope, Tensor, withoutScope } from "./tensor.js";

export interface MultiLossOptions<N extends string> {
  /** Every loss there may be, in a fixed order: that of `c`. */
  readonly names: readonly N[];
  /** How learned losses are weighed; "fixed" learns nothing. Default "liebel". */
  readonly weighting?: "liebel" | "kendall" | "fixed";
  /** The losses whose weights are learned; default all that `fixed` does not name. */
  readonly learned?: readonly N[];
  /** Weights, zero or more, of losses that are not learned; default 1. */
  readonly fixed?: Readonly<Partial<Record<N, number>>>;
}

/**
 * Joins several losses into one, with learned weights:
 *
 * - "liebel": Σ ½·c⁻²·L + ln(1 + c²), c = 1 at the start, so every weight starts at ½ (Liebel and Körner 2018, eq. 3). Its
 *   optimum for a constant loss is c² = (L + √(L² + 8L)) / 4: **the smaller a loss, the larger its weight**. A domain
 *   loss behind `reverseGradient` is such a loss, too: leave it out of `learned` to keep the reversed gradient steady.
 * - "kendall": Σ ½·e^−s·L + ½·s, s = ln σ² = 0 at the start (Kendall et al. 2018; LibMTL's UW). May become negative.
 * - "fixed": Σ w·L.
 *
 * c² and e^s count as 10⁻⁴ or more (see `addWeightedLoss`), so no weight exceeds 5,000. The parameter belongs in an
 * optimiser group **without weight decay**: decay pulls c to 0, which raises the weights.
 */
export class MultiLoss<N extends string = string> implements Disposable {
  readonly names: readonly N[];
  readonly weighting: "liebel" | "kendall" | "fixed";
  /** The names behind c[0], c[1], … */
  readonly learned: readonly N[];
  readonly #fixed: Readonly<Partial<Record<N, number>>>;
  readonly #c: Tensor; // [learned]

  /** @throws ArgumentError where names repeat or are unknown, or a fixed weight is negative or belongs to a learned loss. */
  constructor(device: Backend, options: MultiLossOptions<N>) {
    const { names, weighting = "liebel", fixed = {} as Readonly<Partial<Record<N, number>>> } = options;
    if (!["liebel", "kendall", "fixed"].includes(weighting)) {
      throw new ArgumentError("MultiLoss", `weighting must be liebel, kendall or fixed, not ${String(weighting)}`);
    }
    const fixedNames = Object.keys(fixed) as N[]; // keys of a record of N
    const learned = options.learned ?? (weighting === "fixed" ? [] : names.filter((name) => fixed[name] === undefined));
    if (names.length === 0 || new Set(names).size !== names.length) {
      throw new ArgumentError("MultiLoss", `names must be given, each once: [${names.join(", ")}]`);
    }
    const unknown = [...learned, ...fixedNames].filter((name) => !names.includes(name));
    if (unknown.length > 0) throw new ArgumentError("MultiLoss", `no such loss: ${unknown.join(", ")}`);
    if (new Set(learned).size !== learned.length) {
      throw new ArgumentError("MultiLoss", `learned names a loss twice: [${learned.join(", ")}]`);
    }
    if (weighting === "fixed" && learned.length > 0) {
      throw new ArgumentError("MultiLoss", 'weighting "fixed" learns no weights');
    }
    for (const name of fixedNames) {
      const weight = fixed[name]!;
      if (!(weight >= 0 && Number.isFinite(weight))) {
        throw new ArgumentError("MultiLoss", `the weight of ${name} must be finite and zero or more, not ${weight}`);
      }
      if (learned.includes(name)) throw new ArgumentError("MultiLoss", `${name} is both learned and fixed`);
    }
    this.names = [...names];
    this.weighting = weighting;
    this.learned = names.filter((name) => learned.includes(name));
    this.#fixed = { ...fixed };
    this.#c = withoutScope(() => Tensor.full(device, [this.learned.length], weighting === "kendall" ? 0 : 1));
  }

  /** `c` (for "kendall": s), f32 `[learned]`; no entry where nothing is learned. */
  parameters(): Map<string, Tensor> {
    return this.#c.size > 0 ? new Map([["c", this.#c]]) : new Map();
  }

  /**
   * The weighted sum of the losses given, f32 of one element each, differentiable in each of them and in c; and the
   * weight each has now, as tensors without gradient. A loss that is not given is left out with its penalty, so that a
   * step without a target batch neither sees nor moves the weight of the domain loss.
   * @throws ArgumentError where a name is unknown or no loss is given; ShapeError and DTypeError where a loss is not so.
   */
  combine(losses: { readonly [K in N]?: Tensor }): { total: Tensor; weights: { [K in N]?: Tensor } } {
    const given = (Object.keys(losses) as N[]).filter((name) => losses[name] !== undefined); // keys of a record of N
    const unknown = given.filter((name) => !this.names.includes(name));
    if (unknown.length > 0) throw new ArgumentError("MultiLoss.combine", `no such loss: ${unknown.join(", ")}`);
    if (given.length === 0) throw new ArgumentError("MultiLoss.combine", "no loss was given");
    for (const name of given) {
      const { spec, size } = losses[name]!;
      if (spec.dtype !== "f32") throw new DTypeError("MultiLoss.combine", `${name} must be f32`, { [name]: spec });
      if (size !== 1)
        throw new ShapeError("MultiLoss.combine", `${name} must have exactly one element`, { [name]: spec });
    }
    return scope(() => {
      let total: Tensor | null = null;
      const weights: { [K in N]?: Tensor } = {};
      // In the order of names, whatever the order of the record: the sum has the same bits every time.
      for (const name of this.names) {
        const loss = losses[name];
        if (!loss) continue;
        const index = this.learned.indexOf(name);
        if (index >= 0 && this.weighting !== "fixed") {
          const term: { total: Tensor; weight: Tensor } = addWeightedLoss(total, loss, this.#c, index, this.weighting);
          total = term.total;
          weights[name] = term.weight;
        } else {
          const weight = this.#fixed[name] ?? 1;
          const term = scale(loss, weight);
          total = total ? add(total, term) : term;
          weights[name] = Tensor.full(loss.device, [], weight);
        }
      }
      return { total: total!, weights };
    });
  }

  /** The weight each loss has now, ½/c² or ½·e^−s where it is learned: for logs. Waits for the device. */
  async weights(): Promise<Record<N, number>> {
    const c = this.#c.size > 0 ? await this.#c.data() : [];
    const weightOf = (name: N): number => {
      const index = this.learned.indexOf(name);
      if (index < 0) return this.#fixed[name] ?? 1;
      const variance = this.weighting === "kendall" ? Math.exp(c[index]!) : c[index]! ** 2;
      return 0.5 / Math.max(SMALLEST_VARIANCE, variance);
    };
    return Object.fromEntries(this.names.map((name) => [name, weightOf(name)])) as Record<N, number>; // every N has its entry
  }

  dispose(): void {
    this.#c.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
