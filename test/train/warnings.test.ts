import { describe, expect, it } from "vitest";
import type { StepRecord } from "../../src/train/index.js";
import { NO_WARNINGS, observe, type Warning, type WarningState } from "../../src/train/warnings.js";

const healthy: StepRecord = {
  step: 0,
  total: 2,
  losses: { crossEntropy: 0.8, tversky: 0.5, domain: 0.6 },
  weights: { crossEntropy: 0.6, tversky: 0.7, domain: 0.6 },
  lambda: 0.5,
  lr: 1e-3,
  discriminatorAccuracy: { source: 0.7, target: 0.7 },
  gradientNorm: 1,
  gradientNorms: { task: 0.1, reversed: 0.05 },
  images: 8,
  secondsPerStep: 0.1,
};
const LEARNED = ["crossEntropy", "tversky", "domain"] as const;

/** Feeds as many steps of each kind, one after the other; through JSON halfway, as a checkpoint would. */
function feed(...parts: readonly (readonly [count: number, change: Partial<StepRecord>])[]): Warning[] {
  const said: Warning[] = [];
  let state: WarningState = NO_WARNINGS;
  let step = 0;
  for (const [count, change] of parts) {
    for (let i = 0; i < count; i++) {
      const seen = observe(state, { ...healthy, ...change, step: ++step }, LEARNED);
      state = i === count >> 1 ? (JSON.parse(JSON.stringify(seen.state)) as WarningState) : seen.state;
      said.push(...seen.said);
    }
  }
  return said;
}

const domain = (loss: number) => ({ ...healthy.losses, domain: loss });

describe("early warnings", () => {
  it("say nothing of a healthy run, nor of one without discriminator", () => {
    expect(feed([500, {}])).toEqual([]);
    const alone = { losses: { crossEntropy: 1 }, weights: { crossEntropy: 0.5 }, lambda: 0 };
    expect(feed([200, { ...alone, discriminatorAccuracy: null, gradientNorms: null }])).toEqual([]);
    // Domains that cannot be told apart, with verdicts of both kinds, are what adaptation is for.
    const confused = { losses: domain(Math.LN2), discriminatorAccuracy: { source: 0.52, target: 0.49 } };
    expect(feed([500, confused])).toEqual([]);
  });

  it.each<[string, Partial<StepRecord>, RegExp]>([
    [
      "discriminator-wins",
      { losses: domain(0.02), discriminatorAccuracy: { source: 0.99, target: 0.98 } },
      /wins outright \(right for 9\d %.*lrFactor/,
    ],
    [
      "discriminator-loses",
      { losses: domain(Math.LN2 + 0.002), discriminatorAccuracy: { source: 1, target: 0.02 } },
      /collapsed.*everything source.*lrFactor/,
    ],
    [
      "loss-weight",
      { weights: { ...healthy.weights, tversky: 4000 } },
      /tversky has run to 1\.\de\+2: it drowns.*losses\.fixed\.tversky=1/,
    ],
    ["loss-weight", { weights: { ...healthy.weights, domain: 0.001 } }, /domain.*is drowned by/],
    [
      "reversed-gradient",
      { gradientNorms: { task: 0.01, reversed: 0.3 } },
      /10 times the task's.*discriminator\.lambda/,
    ],
  ])("say %s once, and once that it is over", (name, change, message) => {
    const said = feed([200, {}], [300, change], [600, {}]);
    expect(said.map((w) => [w.warning, w.began])).toEqual([
      [name, true],
      [name, false],
    ]);
    expect(said[0]!.message).toMatch(message);
    expect(said[0]!.step).toBeGreaterThan(200);
    expect(said[0]!.step).toBeLessThanOrEqual(500);
    expect(said[1]!.step).toBeGreaterThanOrEqual(550);
    for (const w of said) expect(w.message).not.toContain("\n");
  });

  it("wait for fifty steps, and for lambda before a discriminator may win", () => {
    const wins = { losses: domain(0.02), discriminatorAccuracy: { source: 1, target: 1 } };
    expect(feed([49, wins])).toEqual([]);
    expect(feed([50, wins])).toHaveLength(1);
    expect(feed([200, { ...wins, lambda: 0.05 }])).toEqual([]);
  });

  it("are of learned weights only", () => {
    const fixed = observe(NO_WARNINGS, { ...healthy, weights: { domain: 1e6 } }, []);
    expect(Object.keys(fixed.state.averages).some((key) => key.startsWith("weight"))).toBe(false);
  });
});
