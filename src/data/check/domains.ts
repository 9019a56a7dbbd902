import { type Findings, percent } from "./finding.js";
import type { SplitSummary } from "./split.js";

/** Deviations of the source between the means of the two domains above which the difference is worth a warning. */
export const SHIFT_LIMIT = 1;
/** Ratio of the classes' shares above which a loss without weights or overlap term hardly sees the rarest. */
const IMBALANCE_LIMIT = 20;
/** Share of ignored pixels over a split above which it is worth a warning. */
const IGNORED_LIMIT = 0.5;

/** Mean and deviation by band, in stored units; null where nothing was measured. */
export interface BandStatistics {
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

export function statisticsOf({ bands }: SplitSummary): BandStatistics | null {
  if (bands.length === 0 || bands.some(({ count }) => count === 0)) return null;
  const mean = bands.map(({ sum, count }) => sum / count);
  const deviation = bands.map(({ square, count }, b) => Math.sqrt(Math.max(0, square / count - mean[b]! ** 2)));
  return { mean, deviation };
}

/** A band that is constant over a whole split, and bands whose means lie apart between the domains. */
export function checkStatistics(splits: ReadonlyMap<string, SplitSummary>, findings: Findings): void {
  const found = new Map<string, BandStatistics>();
  for (const [name, split] of splits) {
    const statistics = statisticsOf(split);
    if (!statistics) continue;
    found.set(name, statistics);
    statistics.deviation.forEach((deviation, band) => {
      if (deviation === 0) {
        const value = statistics.mean[band]!;
        findings.warn("constant-band", name, `band ${band + 1} is ${value} everywhere: it tells a model nothing`);
      }
    });
  }
  const [source, target] = [found.get("source/train"), found.get("target/train")];
  if (!source || !target || source.mean.length !== target.mean.length) return;
  source.mean.forEach((mean, band) => {
    const [other, deviation] = [target.mean[band]!, source.deviation[band]!];
    const apart = Math.abs(other - mean) / deviation;
    if (!(apart > SHIFT_LIMIT)) return; // NaN where both are constant
    findings.warn(
      "domain-shift",
      null,
      `band ${band + 1}: mean ${round(mean)} in source/train, ${round(other)} in target/train, ${apart.toFixed(1)} deviations apart (more than ${SHIFT_LIMIT}); normalise: domain takes that out`,
    );
  });
}

/** Absent classes, masks written as 0 and 255, the share that is ignored, balance and weights. */
export function checkClasses(
  splits: ReadonlyMap<string, SplitSummary>,
  classes: readonly string[],
  ignore: number,
  findings: Findings,
): void {
  for (const [name, { histogram, labelled }] of splits) {
    if (labelled === 0) continue;
    const absent = classes.filter((_, index) => histogram[index] === 0);
    const ignored = histogram[ignore]! / labelled;
    if (absent.length === classes.length - 1 && ignored > 0) {
      findings.warn(
        "mask-values",
        name,
        `labels hold only ${[...histogram.keys()].filter((v) => histogram[v]! > 0).join(" and ")}, and ${ignore} means ignore: if it marks a class here, write it as an index`,
      );
    }
    for (const missing of absent) findings.warn("absent-class", name, `no pixel is ${missing}`);
    if (ignored > IGNORED_LIMIT)
      findings.warn("ignore-share", name, `${percent(ignored)} of the label pixels are ignored`);
    else if (ignored > 0) findings.note("ignore-share", name, `${percent(ignored)} of the label pixels are ignored`);
  }
  const train = splits.get("source/train");
  const shares = train ? classShares(train, classes.length) : null;
  if (!shares) return;
  const present = shares.filter((share) => share > 0);
  const ratio = Math.max(...present) / Math.min(...present);
  const rarest = classes[shares.indexOf(Math.min(...present))]!;
  const weights = classWeights(shares).map((w) => w.toFixed(2));
  const text = `the largest class of source/train has ${ratio.toFixed(1)} times the pixels of the smallest (${rarest}); weights 1 / log(1.02 + share): losses.crossEntropy.classWeights=[${weights.join(",")}]`;
  if (ratio > IMBALANCE_LIMIT) findings.warn("imbalance", "source/train", text);
  else findings.note("balance", "source/train", text);
}

/** Share of each class among the label pixels that count; null where there are none. */
export function classShares({ histogram }: SplitSummary, classes: number): number[] | null {
  const counted = histogram.subarray(0, classes).reduce((a, b) => a + b, 0);
  return counted === 0 ? null : Array.from(histogram.subarray(0, classes), (pixels) => pixels / counted);
}

/** 1 / ln(1.02 + share), the weights of ENet (Paszke et al. 2016) as DeepLab trainers use them. */
export const classWeights = (shares: readonly number[]): number[] => shares.map((share) => 1 / Math.log(1.02 + share));

const round = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
