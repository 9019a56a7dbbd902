export type Rank = "worst" | "median" | "best" | "only";

/**
 * Which of many to show: the worst, those around the median, and the best, worst first. An even spread over a split would
 * show what is usual and neither of what matters, where it fails and what it can do.
 * @param scores larger is better; null is never chosen.
 * @param each how many of a kind at most; fewer of each where there are not three times as many, the median's first.
 */
export function representatives(scores: readonly (number | null)[], each: number): { rank: Rank; index: number }[] {
  const known = scores.flatMap((score, index) => (score === null ? [] : [{ score, index }]));
  // By index where scores are equal, so that the choice is the same every time.
  const order = known.sort((a, b) => a.score - b.score || a.index - b.index).map(({ index }) => index);
  if (order.length === 1) return [{ rank: "only", index: order[0]! }];
  const ends = Math.min(each, Math.floor(order.length / 2));
  const between = order.slice(ends, order.length - ends);
  const middle = Math.min(each, between.length);
  const start = Math.floor((between.length - middle) / 2);
  const ranked = (rank: Rank, indices: readonly number[]) => indices.map((index) => ({ rank, index }));
  return [
    ...ranked("worst", order.slice(0, ends)),
    ...ranked("median", between.slice(start, start + middle)),
    ...ranked("best", order.slice(order.length - ends)),
  ];
}
