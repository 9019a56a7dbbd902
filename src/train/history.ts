import type { Chart, Series } from "./report/chart.js";
import type { StepRecord } from "./session.js";
import type { ValidatorScores } from "./validators.js";

/** Mean IoU on the val splits after some step; null where a split does not exist. */
export interface EvaluationRecord {
  readonly step: number;
  readonly sourceMeanIoU: number | null;
  /** Of an oracle: it uses target labels. */
  readonly targetMeanIoU: number | null;
  /** Of target images, without their labels; null where the data set has none. */
  readonly validators: ValidatorScores | null;
}

/** The evaluated model that is kept as the best, by the configuration's `select`. */
export interface Best {
  readonly step: number;
  /** Larger is better: the entropy's sign is turned. */
  readonly score: number;
}

/** What a run remembers of itself. Plain JSON. */
export interface History {
  /** Every `stride`-th step, so that the length is bounded whatever the number of steps. */
  readonly steps: readonly StepRecord[];
  readonly evaluations: readonly EvaluationRecord[];
  /** Null before the first evaluation. */
  readonly best: Best | null;
  /** Time spent in steps and evaluations, all sessions of the run together. */
  readonly seconds: number;
}

export const EMPTY_HISTORY: History = { steps: [], evaluations: [], best: null, seconds: 0 };

const MAX_RECORDS = 2000;

/** The history with one more step, if it is one that is kept. */
export function withStep(history: History, record: StepRecord, totalSteps: number): History {
  const stride = Math.ceil(totalSteps / MAX_RECORDS);
  const kept = record.step % stride === 0 ? [...history.steps, record] : history.steps;
  return { ...history, steps: kept, seconds: history.seconds + record.secondsPerStep };
}

const VALIDATORS = {
  entropy: "entropy",
  im: "information maximisation",
  snd: "soft neighbourhood density",
} as const;

/** The curves of a run, for its report. */
export function chartsOf({ steps, evaluations }: History): Chart[] {
  const over = (name: string, value: (record: StepRecord) => number | null | undefined): Series => ({
    name,
    points: steps.map((record) => [record.step, value(record) ?? Number.NaN]),
  });
  const names = [...new Set(steps.flatMap((record) => Object.keys(record.losses)))] as (keyof StepRecord["losses"])[];
  const measured = (name: string, value: (e: EvaluationRecord) => number | null | undefined): Series => ({
    name,
    points: evaluations.map((e) => [e.step, value(e) ?? Number.NaN]),
  });
  const charts: Chart[] = [
    { title: "Losses", x: "step", series: names.map((name) => over(name, (r) => r.losses[name])) },
    { title: "Weights of the losses", x: "step", series: names.map((name) => over(name, (r) => r.weights[name])) },
    {
      title: "Domain discriminator",
      x: "step",
      series: [
        over("accuracy, source", (r) => r.discriminatorAccuracy?.source),
        over("accuracy, target", (r) => r.discriminatorAccuracy?.target),
        over("lambda", (r) => (r.discriminatorAccuracy ? r.lambda : null)),
      ],
    },
    { title: "Learning rate", x: "step", series: [over("learning rate", (r) => r.lr)] },
    { title: "Norm of the gradient", x: "step", series: [over("norm before clipping", (r) => r.gradientNorm)] },
    {
      title: "Gradients where the discriminator looks",
      x: "step",
      series: [over("task", (r) => r.gradientNorms?.task), over("reversed", (r) => r.gradientNorms?.reversed)],
    },
    {
      title: "Mean IoU",
      x: "step",
      series: [measured("source", (e) => e.sourceMeanIoU), measured("target", (e) => e.targetMeanIoU)],
    },
    ...(["entropy", "im", "snd"] as const).map((name) => ({
      title: `Target without labels: ${VALIDATORS[name]}`,
      x: "step",
      series: [measured(name, (e) => e.validators?.[name])],
    })),
  ];
  return charts
    .map((chart) => ({ ...chart, series: chart.series.filter((s) => s.points.some(([, y]) => Number.isFinite(y))) }))
    .filter((chart) => chart.series.length > 0);
}
