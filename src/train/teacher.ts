import type { DeepLabV3Plus } from "../models/index.js";
import { addScalar, argmax, clamp, max, mean, scale, softmax } from "../ops/index.js";
import { EMA, type Optimizer } from "../optim/index.js";
import { scope, type Tensor } from "../tensor.js";

/** What the teacher says of a batch. */
export interface PseudoLabels {
  /** Most likely classes, u32 `[n, h, w]`. */
  readonly labels: Tensor;
  /** Share of pixels whose class has at least the threshold's probability, in [0, 1]; one element. */
  readonly confident: Tensor;
}

/**
 * The teacher of self-training: a second network whose weights are the moving average of the student's. It predicts as in
 * evaluation, without dropout, normalising by the student's running statistics, which it shares: those of both domains,
 * as the student's batches mix them. Tarvainen & Valpola 2017; Hoyer et al., "DAFormer", 2022.
 */
export class Teacher implements Disposable {
  readonly ema: EMA;
  readonly #model: DeepLabV3Plus;
  readonly #threshold: number;

  /**
   * @param model of the same make as the student; the teacher's from here on.
   * @param optimiser of the student; it must outlive the teacher.
   */
  constructor(
    model: DeepLabV3Plus,
    student: DeepLabV3Plus,
    optimiser: Optimizer,
    { decay, threshold }: { readonly decay: number; readonly threshold: number },
  ) {
    this.#threshold = threshold;
    this.ema = new EMA(optimiser, decay);
    const averageOf = new Map(optimiser.parameters.map((t, i) => [t, this.ema.averages[i]!]));
    const { device } = optimiser.arena;
    // Weights live where the averages are, statistics where the student's are: nothing is copied from step to step.
    const share = (
      own: ReadonlyMap<string, Tensor>,
      theirs: ReadonlyMap<string, Tensor>,
      home: (t: Tensor) => Tensor,
    ) => {
      for (const [name, t] of own) {
        const original = theirs.get(name)!;
        device.copy(original.view, t.view);
        t.moveInto(home(original));
      }
    };
    share(model.parameters(), student.parameters(), (t) => averageOf.get(t)!);
    share(model.buffers(), student.buffers(), (t) => t);
    this.#model = model.eval();
  }

  /** Labels of images `[n, h, w, bands]`. */
  label(images: Tensor): PseudoLabels {
    return scope(() => {
      const probabilities = softmax(this.#model.forward(images)); // [n, h, w, classes]
      const margin = addScalar(max(probabilities, { axes: [-1] }), -this.#threshold);
      // A steep ramp is the step function but for probabilities within 1e-20 of the threshold.
      return { labels: argmax(probabilities), confident: mean(clamp(scale(margin, 1e20), 0, 1)) };
    });
  }

  dispose(): void {
    this.#model.dispose();
    this.ema.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
