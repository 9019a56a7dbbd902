import type { Backend, Graph, Graphs } from "./backends/backend.js";
import { ScopeError } from "./errors.js";
import { Recording, record, valuesOf } from "./recording.js";
import { dispose, scope, tensorsIn, withoutScope } from "./tensor.js";

/** A step that was captured. Dispose of it, or let `using` do so: its tensors go with it. */
export interface CapturedStep<T> extends Disposable {
  /** What the step returned: the same tensors always, which each replay fills anew. */
  readonly values: T;
  /** Does the device repeat its list of commands by itself? Else replaying runs the function again. */
  readonly graph: boolean;
  /** Takes the step once more, with the same results, to the bit, as calling the function again would have. */
  replay(): void;
  dispose(): void;
}

/**
 * Takes a step once and keeps its commands, so that taking it again costs next to nothing in JavaScript: on CUDA a graph of
 * all its kernels, which the driver launches at once; on WebGPU a list of all that its kernels bind, in memory that is
 * planned for the whole step; on other devices the function runs again, with the same results.
 *
 * The step reads what is in its tensors when it is replayed: `assign` new data to those it takes in. Numbers are those of
 * the first time, unless they are given as functions (`lrScale`, `reverseGradient`'s lambda, an average's step) or are
 * counted by `eachStep`: optimisers and random generators do that by themselves. Tensors that it uses but did not make
 * must outlive it; it must make the same kernels every time, and must not read (`data()`) in between.
 *
 * Take a step without capture first: kernels are loaded when they are first used.
 * @throws ScopeError where `step` is async; DeviceError.
 */
export function capture<T>(device: Backend, step: () => T): CapturedStep<T> {
  const recording = new Recording(device);
  const once = () => withoutScope(() => scope(step));
  const { graph, values } = device.graphs ? asGraph(device.graphs, recording, once) : { graph: null, values: once() };
  let open = true;
  return {
    values,
    graph: graph !== null,
    replay() {
      if (!open) throw new ScopeError("capture: the step was disposed");
      if (!graph) return again(device, once, values);
      for (const effect of recording.effects) effect();
      graph.replay(recording.live.map(({ run, kernel, params }) => ({ run, kernel, params: valuesOf(params) })));
    },
    dispose() {
      if (open) dispose(values);
      if (open) graph?.dispose();
      open = false;
    },
    [Symbol.dispose]() {
      this.dispose();
    },
  };
}

function asGraph<T>(graphs: Graphs, recording: Recording, once: () => T): { graph: Graph; values: T } {
  graphs.begin();
  let values: T;
  try {
    values = record(recording, once);
  } catch (error) {
    graphs.cancel();
    throw error;
  }
  const graph = graphs.end();
  graph.replay([]); // so far its commands were only kept
  return { graph, values };
}

/** Runs the function again and moves its results to where the first ones are. */
function again<T>(device: Backend, once: () => T, values: T): void {
  const results = once();
  const places = [...tensorsIn(values)];
  for (const [i, t] of [...tensorsIn(results)].entries()) device.copy(t.view, places[i]!.view);
  dispose(results);
}
