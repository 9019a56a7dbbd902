import type { ConfusionMatrix } from "../metrics.js";
import type { ConfusionTable } from "./report/confusion.js";

/** Rows: labels, columns: predictions. */
export function countsOf(confusion: ConfusionMatrix): number[][] {
  const range = [...Array(confusion.classes).keys()];
  return range.map((label) => range.map((prediction) => confusion.count(label, prediction)));
}

export const confusionTable = (
  title: string,
  classes: readonly string[],
  confusion: ConfusionMatrix,
): ConfusionTable => ({
  title,
  classes,
  counts: countsOf(confusion),
});

/** `43.2`, in percent; a dash for what is undefined. */
export const percent = (value: number | null): string => (value === null ? "–" : (100 * value).toFixed(1));

/** Scores for a terminal: the means, a line a class, and which classes no mean includes. */
export function scoreLines(title: string, classes: readonly string[], confusion: ConfusionMatrix): string[] {
  const scores = confusion.scores();
  const width = Math.max(5, ...classes.map((name) => name.length));
  const cells = (values: readonly (number | null)[]) => values.map((value) => percent(value).padStart(9)).join("");
  const absent = scores.absent.map((index) => classes[index]!);
  return [
    `${title}: mean IoU ${percent(scores.meanIoU)}, accuracy ${percent(scores.overallAccuracy)}, kappa ${scores.kappa.toFixed(3)}`,
    `  ${"".padEnd(width)}${["IoU", "F1", "precision", "recall"].map((name) => name.padStart(name === "precision" ? 10 : 9)).join("")}`,
    ...scores.perClass.map(({ iou, f1, precision, recall }, i) => {
      return `  ${classes[i]!.padEnd(width)}${cells([iou, f1])} ${cells([precision, recall])}`;
    }),
    ...(absent.length > 0 ? [`  neither labelled nor predicted, in no mean: ${absent.join(", ")}`] : []),
  ];
}
