import { ScopeError, ShapeError } from "./errors.js";
import { defineKernel, linear } from "./kernel.js";
import { run, scope, Tensor, withoutScope } from "./tensor.js";

/** One recorded operation: what it read, what it keeps, and how to pull a gradient back through it. */
interface Entry {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly saved: readonly Tensor[];
  readonly pull: (dy: Tensor, saved: readonly Tensor[]) => readonly (Tensor | null)[];
}

class Tape {
  readonly entries: Entry[] = [];
  readonly tracked: Set<Tensor>;
  constructor(parameters: readonly Tensor[]) {
    this.tracked = new Set(parameters);
  }
}
let tape: Tape | null = null;

const accumulateAdd = defineKernel({
  name: "accumulate.add",
  inputs: ["a", "b"],
  outputs: ["y"],
  params: { count: "u32" },
  groups: (p) => linear(p.count),
  batch: { count: "count", buffers: ["a", "b", "y"] },
});

/**
 * Declares how `output` was made. `pull` maps the gradient of `output` to one gradient per input (null where there is
 * none). It may touch only `saved` and plain numbers, so what a step holds in memory is written in the op. Does nothing
 * where no tape is open or no input is tracked.
 */
export function differentiable<const I extends readonly Tensor[], const S extends readonly Tensor[]>(
  inputs: I,
  saved: S,
  output: Tensor,
  pull: (dy: Tensor, saved: { readonly [K in keyof S]: Tensor }) => { readonly [K in keyof I]: Tensor | null },
): Tensor {
  if (tape && inputs.some((t) => tape!.tracked.has(t))) {
    tape.tracked.add(output);
    const kept = withoutScope(() => saved.map((t) => t.alias()));
    tape.entries.push({ inputs, output, saved: kept, pull: pull as unknown as Entry["pull"] });
  }
  return output;
}

/** True while a tape is open and `x` depends on a parameter: lets an op skip saving what nobody will read. */
export const isTracked = (x: Tensor): boolean => tape?.tracked.has(x) ?? false;

/**
 * Runs `fn`, then differentiates its `loss` (one element) with respect to `parameters`. Whatever else `fn` returns is
 * passed on in `values`; everything it made besides is freed. First order only.
 * @returns `gradients[i]` has the shape of `parameters[i]`; zeros where the loss does not depend on it.
 * @throws ShapeError where `loss` is not one element; ScopeError where called inside itself or `fn` is async.
 */
export function differentiate<V extends { readonly loss: Tensor }>(
  parameters: readonly Tensor[],
  fn: () => V,
): { values: V; gradients: Tensor[] } {
  if (tape) throw new ScopeError("differentiate: called inside itself; only first-order gradients are supported");
  return scope(() => {
    const recorded = new Tape(parameters);
    tape = recorded;
    try {
      const values = fn();
      tape = null; // gradient rules are not themselves recorded
      if ((values as unknown) instanceof Promise) {
        (values as unknown as Promise<unknown>).catch(() => {});
        throw new ScopeError("differentiate: the function must not be async; read values after it returned");
      }
      if (values.loss.size !== 1) {
        throw new ShapeError("differentiate", "the loss must have exactly one element", { loss: values.loss.spec });
      }
      return { values, gradients: pullBack(recorded, values.loss, parameters) };
    } finally {
      tape = null;
      for (const entry of recorded.entries) for (const t of entry.saved) t.dispose();
    }
  });
}

/** Walks the tape backwards: execution order is a topological order, so no sort is needed. */
function pullBack({ entries, tracked }: Tape, loss: Tensor, parameters: readonly Tensor[]): Tensor[] {
  const gradientOf = new Map<Tensor, Tensor>([[loss, Tensor.full(loss.device, loss.shape, 1, loss.dtype)]]);
  const wanted = new Set(parameters);
  for (let entry = entries.pop(); entry; entry = entries.pop()) {
    const { inputs, output, saved, pull } = entry;
    const dy = gradientOf.get(output);
    if (dy) {
      const pulled = scope(() => [...pull(dy, saved)]); // temporaries of the rule die here
      pulled.forEach((g, i) => {
        const input = inputs[i]!;
        if (!g || !tracked.has(input)) return;
        const before = gradientOf.get(input);
        const [sum] = before ? run(accumulateAdd, [before, g], [g.spec], { count: g.size }) : [g.alias(input.shape)];
        gradientOf.set(input, sum);
        before?.dispose();
      });
      for (const g of new Set(pulled)) if (g !== dy) g?.dispose();
      if (!wanted.has(output)) {
        gradientOf.delete(output);
        dy.dispose();
      }
    }
    for (const t of saved) t.dispose();
  }
  const returned = new Set<Tensor>();
  const gradients = parameters.map((p) => {
    const g = gradientOf.get(p) ?? Tensor.zeros(p.device, p.shape, p.dtype);
    const own = returned.has(g) ? g.alias() : g;
    returned.add(own);
    return own;
  });
  return gradients;
}
