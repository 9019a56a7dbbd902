import type { Chart, Series } from "./report.js";
import type { StepRecord } from "./session.js";

/** Mean IoU on the val splits after some step; null where a split does not exist. */
export interface EvaluationRecord {
  readonly step: number;
  readonly sourceMeanIoU: number | null;
  readonly targetMeanIoU: number | null;
}

/** What a run remembers of itself. Plain JSON. */
export interface History {
  /** Every `stride`-th step, so that the length is bounded whatever the number of steps. */
  readonly steps: readonly StepRecord[];
  readonly evaluations: readonly EvaluationRecord[];
  /** Time spent in steps and evaluations, all sessions of the run together. */
  readonly seconds: number;
}

export const EMPTY_HISTORY: History = { steps: [], evaluations: [], seconds: 0 };

const MAX_RECORDS = 2000;

/** The history with one more step, if it is one that is kept. */
export function withStep(history: History, record: StepRecord, totalSteps: number): History {
  const stride = Math.ceil(totalSteps / MAX_RECORDS);
  const kept = record.step % stride === 0 ? [...history.steps, record] : history.steps;
  return { ...history, steps: kept, seconds: history.seconds + record.secondsPerStep };
}

/** The curves of a run, for its report. */
export function chartsOf({ steps, evaluations }: History): Chart[] {
  const over = (name: string, value: (record: StepRecord) => number | null | undefined): Series => ({
    name,
    points: steps.map((record) => [record.step, value(record) ?? Number.NaN]),
  });
  const names = [...new Set(steps.flatMap((record) => Object.keys(record.losses)))] as (keyof StepRecord["losses"])[];
  const measured = (name: string, value: (e: EvaluationRecord) => number | null): Series => ({
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
      title: "Mean IoU",
      x: "step",
      series: [measured("source", (e) => e.sourceMeanIoU), measured("target", (e) => e.targetMeanIoU)],
    },
  ];
  return charts
    .map((chart) => ({ ...chart, series: chart.series.filter((s) => s.points.some(([, y]) => Number.isFinite(y))) }))
    .filter((chart) => chart.series.length > 0);
}
