// How our kernels are timed: many launches captured as one graph, over operands in turn so that none of them is still in
// the card's L2 cache, and its replay timed by the clock of the host between two waits for the card. JavaScript and the
// launches' cost to the CPU are not in the figure; a wait costs some 30 µs, and a replay takes milliseconds.
import { capture, dispose } from "../../dist/index.js";

/** Operands and results of all sets together: five times the largest L2 there is. */
export const FLUSH_BYTES = 256e6;
/** What a replay should take at least. */
const REPLAY_MS = 5;
const MOST_LAUNCHES = 2000;

/** @typedef {import("../../dist/index.js").Device} Device */
/** @typedef {import("../../dist/index.js").Tensor} T */

/** How many sets of operands it takes. @param {number} bytes of one set, results included */
export const setsFor = (bytes, small = false) =>
  small ? 2 : Math.max(1, Math.min(64, Math.ceil(FLUSH_BYTES / bytes)));

/**
 * Median milliseconds of one launch.
 * @param {Device} device
 * @param {number} sets
 * @param {(set: number) => readonly T[]} launch Gives its results, which are kept until that set's next turn.
 * @param {number} repetitions
 */
export async function timed(device, sets, launch, repetitions) {
  /** @type {(readonly T[])[]} */
  const kept = Array.from({ length: sets }, () => []);
  const turn = (/** @type {number} */ set) => {
    dispose(kept[set]);
    kept[set] = launch(set);
  };
  const empty = () => {
    for (const results of kept.splice(0, sets, ...kept.map(() => []))) dispose(results);
  };
  for (let set = 0; set < sets; set++) turn(set); // loads kernels
  await device.sync();
  const started = performance.now();
  for (let set = 0; set < sets; set++) turn(set);
  await device.sync();
  const round = performance.now() - started;
  empty();
  const rounds = Math.max(1, Math.min(Math.ceil(REPLAY_MS / round), Math.floor(MOST_LAUNCHES / sets)));
  const graph = capture(device, () => {
    for (let i = 0; i < rounds * sets; i++) turn(i % sets);
    empty();
    return null;
  });
  const times = [];
  for (let i = -3; i < repetitions; i++) {
    await device.sync();
    const before = performance.now();
    graph.replay();
    await device.sync();
    if (i >= 0) times.push((performance.now() - before) / (rounds * sets));
  }
  graph.dispose();
  return median(times);
}

/** @param {number[]} list */
export const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

/** Runs `f` with no kernel being launched: what follows works on whatever is in memory. @template R @param {Device} device @param {() => R} f */
export function muted(device, f) {
  device.run = () => {};
  try {
    return f();
  } finally {
    // @ts-expect-error: the method of its class shows again
    delete device.run;
  }
}
