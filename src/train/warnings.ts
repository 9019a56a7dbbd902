import type { LossName } from "./config.js";
import type { StepRecord } from "./session.js";

/** What may go wrong early enough to stop a run for it. */
export type WarningName = "discriminator-wins" | "discriminator-loses" | "loss-weight" | "reversed-gradient";

/** Said when a state begins, and when it has ended. */
export interface Warning {
  readonly step: number;
  readonly warning: WarningName;
  readonly began: boolean;
  /** One line; what to try, where the state began. */
  readonly message: string;
}

/** Moving averages of what is watched, and which states hold. Plain JSON: part of a checkpoint. */
export interface WarningState {
  /** Steps seen. */
  readonly count: number;
  readonly averages: Readonly<Record<string, number>>;
  /** Steps since when each state that began no longer held; 0 where it holds. */
  readonly active: Readonly<Partial<Record<WarningName, number>>>;
}
export const NO_WARNINGS: WarningState = { count: 0, averages: {}, active: {} };

/** Steps that averages reach back over, and for which a state must be gone before it has ended. */
const WINDOW = 50;
/** Learned weights beyond these say that a loss is all but switched off or all that counts. */
const WEIGHTS = [0.01, 100] as const;
const LARGEST_RATIO = 10;

interface Rule {
  readonly name: WarningName;
  readonly ended: string;
  /** The message where it holds. */
  readonly check: (averages: Readonly<Record<string, number>>) => string | null;
}

const percent = (share: number): string => `${Math.round(100 * share)} %`;

const RULES: readonly Rule[] = [
  {
    name: "discriminator-wins",
    ended: "the discriminator is no longer always right",
    check: ({ source, target, domain, lambda }) =>
      source! > 0.95 && target! > 0.95 && domain! < 0.1 && lambda! > 0.1
        ? `the discriminator wins outright (right for ${percent(source!)} of source and ${percent(target!)} of target, ` +
          `loss ${domain!.toFixed(3)}): features no longer resist it; try a smaller discriminator.lrFactor or ` +
          "discriminator.width, a larger discriminator.lambda, or losses.fixed.domain=1 so that its weight is not learned"
        : null,
  },
  {
    name: "discriminator-loses",
    ended: "the discriminator tells the domains apart again",
    check: ({ source, target, domain }) =>
      Math.abs(domain! - Math.LN2) < 0.01 &&
      Math.abs((source! + target!) / 2 - 0.5) < 0.05 &&
      Math.abs(source! - target!) > 0.5
        ? `the discriminator has collapsed (loss ln 2, it calls everything ${source! > target! ? "source" : "target"}): ` +
          "nothing is adapted; try a larger discriminator.lrFactor or discriminator.width, or a smaller discriminator.lambda"
        : null,
  },
  {
    name: "loss-weight",
    ended: "no learned weight of a loss is extreme any more",
    check: (averages) => {
      const extreme = Object.entries(averages).find(
        ([key, value]) => key.startsWith("weight.") && (value < WEIGHTS[0] || value > WEIGHTS[1]),
      );
      if (!extreme) return null;
      const [name, weight] = [extreme[0].slice("weight.".length), extreme[1]];
      return (
        `the learned weight of ${name} has run to ${weight.toPrecision(2)}: it ${weight > 1 ? "drowns" : "is drowned by"} ` +
        `the other losses; fix it with losses.fixed.${name}=1, or try a smaller losses.lrFactor`
      );
    },
  },
  {
    name: "reversed-gradient",
    ended: "the reversed gradient no longer dwarfs the task's",
    check: ({ task, reversed }) =>
      reversed! > LARGEST_RATIO * task!
        ? `the reversed gradient is ${(reversed! / task!).toFixed(0)} times the task's: features are trained to confuse, ` +
          "not to segment; try a smaller discriminator.lambda, or losses.fixed.domain below 1"
        : null,
  },
];

/** What of a step is averaged; weights of losses are kept apart by a prefix, and only where they are learned. */
function watched(record: StepRecord, learned: readonly LossName[]): Readonly<Record<string, number>> {
  const values: Record<string, number> = { lambda: record.lambda };
  if (record.discriminatorAccuracy && record.losses.domain !== undefined) {
    Object.assign(values, record.discriminatorAccuracy, { domain: record.losses.domain });
  }
  if (record.gradientNorms) Object.assign(values, record.gradientNorms);
  for (const name of learned) {
    const weight = record.weights[name];
    if (weight !== undefined) values[`weight.${name}`] = weight;
  }
  return values;
}

/**
 * Watches training for states in which it is not worth going on: each is said once when it begins, and once when it
 * has ended. They are judged by moving averages over some 50 steps, not before as many were taken.
 * @param learned the losses whose weights are learned.
 */
export function observe(
  state: WarningState,
  record: StepRecord,
  learned: readonly LossName[],
): { state: WarningState; said: Warning[] } {
  const count = state.count + 1;
  const averages = Object.fromEntries(
    Object.entries(watched(record, learned)).map(([name, value]) => {
      const before = state.averages[name] ?? value;
      return [name, before + (value - before) / Math.min(count, WINDOW)];
    }),
  );
  const said: Warning[] = [];
  const active: Partial<Record<WarningName, number>> = {};
  for (const { name, ended, check } of RULES) {
    const message = count >= WINDOW ? check(averages) : null;
    const since = state.active[name];
    if (message !== null) {
      active[name] = 0;
      if (since === undefined) said.push({ step: record.step, warning: name, began: true, message });
    } else if (since !== undefined && since + 1 < WINDOW) {
      active[name] = since + 1;
    } else if (since !== undefined) {
      said.push({ step: record.step, warning: name, began: false, message: ended });
    }
  }
  return { state: { count, averages, active }, said };
}
