import { type Findings, percent } from "./finding.js";
import type { SplitSummary } from "./split.js";

/** What of a training configuration can be held against the data before it runs. */
export interface PlannedTraining {
  readonly adversarial: boolean;
  readonly crop: number;
  readonly batch: { readonly source: number; readonly target: number };
  /** One batch of both domains. */
  readonly jointBatch: boolean;
  readonly outputStride: number;
  /** Dilations of ASPP, in pixels of the map that it sees. */
  readonly asppRates: readonly number[];
  /** The crop must be a multiple of the output stride. */
  readonly wholeStrides: boolean;
  /** Is the pooled branch of ASPP normalised over the batch? */
  readonly batchNormPooling: boolean;
  /** Channel statistics come from target/train too. */
  readonly needsTarget: boolean;
}

/** Checks that a training would fail or be spoilt by. */
export function checkTraining(
  plan: PlannedTraining,
  splits: ReadonlyMap<string, SplitSummary>,
  findings: Findings,
): void {
  checkCrop(plan, splits, findings);
  checkAspp(plan, findings);
  const domains = plan.adversarial ? (["source", "target"] as const) : (["source"] as const);
  for (const domain of ["source", "target"] as const) {
    const name = `${domain}/train`;
    const needed = domain === "source" || plan.adversarial || plan.needsTarget;
    if (needed && !splits.has(name)) {
      const why = plan.adversarial ? "mode: adversarial" : "normalise: domain";
      findings.error("no-train", name, `is missing${domain === "target" ? `, which ${why} needs` : ""}`);
    }
  }
  for (const domain of domains) {
    const [tiles, batch] = [splits.get(`${domain}/train`)?.tiles ?? 0, plan.batch[domain]];
    if (tiles > 0 && tiles < batch) {
      findings.warn(
        "small-split",
        `${domain}/train`,
        `holds ${tiles} tiles for batches of ${batch}: every batch repeats some`,
      );
    }
  }
  checkBatch(plan, domains, findings);
}

function checkCrop(
  { crop, outputStride, wholeStrides }: PlannedTraining,
  splits: ReadonlyMap<string, SplitSummary>,
  findings: Findings,
): void {
  if (wholeStrides && crop % outputStride !== 0) {
    findings.error("crop-stride", null, `model.variant=smp needs a crop that ${outputStride} divides, not ${crop}`);
  }
  for (const [name, { smallest }] of splits) {
    if (!name.endsWith("/train") || smallest >= crop) continue;
    const share = percent(1 - (smallest / crop) ** 2);
    findings.warn(
      "crop-size",
      name,
      `crop ${crop} is larger than its smallest tile (${smallest} pixels): up to ${share} of a crop is padding`,
    );
  }
}

/** A 3x3 convolution of rate r on a map of side s: an outer tap is inside for s - r of s places along each axis. */
function checkAspp({ crop, outputStride, asppRates }: PlannedTraining, findings: Findings): void {
  const side = Math.ceil(crop / outputStride);
  for (const rate of asppRates) {
    if (rate < side) continue;
    const taps = ((1 + (2 * Math.max(0, side - rate)) / side) / 3) ** 2;
    findings.warn(
      "aspp-rate",
      null,
      `ASPP rate ${rate} reaches beyond the ${side} x ${side} features of a crop of ${crop} at output stride ${outputStride}: ${percent(taps)} of its taps see the image, so it acts as a 1x1 convolution; use crops above ${rate * outputStride}`,
    );
  }
}

function checkBatch(plan: PlannedTraining, domains: readonly ("source" | "target")[], findings: Findings): void {
  if (!plan.batchNormPooling) return;
  const way = "use 2 or more, or model.imagePooling=group";
  const joint = plan.adversarial && plan.jointBatch;
  if (joint) return; // two images at least
  for (const domain of domains) {
    if (plan.batch[domain] === 1) {
      findings.error("batch-of-one", null, `batch.${domain} is 1, and image pooling normalises over the batch: ${way}`);
    }
  }
}
