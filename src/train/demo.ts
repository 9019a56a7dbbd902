import { cached, type Dataset } from "../data/dataset.js";
import { displayed } from "../data/picture.js";
import { proceduralDataset } from "../data/procedural.js";
import type { Device } from "../device.js";
import { ConfusionMatrix } from "../metrics.js";
import type { PartialConfig } from "./config.js";
import type { DemoRecipe } from "./demo_recipe.js";
import { adaptBatchNorm, evaluate, predict } from "./evaluate.js";
import { chartsOf, type History } from "./history.js";
import { type Chart, type Picture, type PictureGrid, paintLabels, renderReport, type Table } from "./report.js";
import { spread } from "./run_report.js";
import { confusionTable, percent } from "./scores.js";
import type { StepRecord } from "./session.js";
import { type TrainResult, train } from "./train.js";

/** What is compared: trained on the source alone and adversarially, each as it is and with AdaBN on the target. */
export const METHODS = ["sourceOnly", "adaBN", "adapted", "adaptedAdaBN"] as const;
export type Method = (typeof METHODS)[number];
const TITLES: Readonly<Record<Method, string>> = {
  sourceOnly: "source-only",
  adaBN: "AdaBN",
  adapted: "adapted",
  adaptedAdaBN: "adapted + AdaBN",
};

/** Scores on the target city's val tiles, in [0, 1]. */
export interface MethodScore {
  readonly targetMIoU: number;
  /** IoU by class; null where a class neither occurs nor was predicted. */
  readonly perClass: Readonly<Record<string, number | null>>;
  /** Mean IoU on the source city's val tiles. */
  readonly sourceMIoU: number;
}

/** What report.json holds. Scores beside `perSeed` are means over seeds. */
export interface DemoReport extends Readonly<Record<Method, MethodScore>> {
  readonly device: string;
  /** Wall-clock time of everything. */
  readonly seconds: number;
  readonly seeds: readonly number[];
  /** Steps of each training. */
  readonly steps: number;
  readonly perSeed: readonly (Readonly<Record<Method, MethodScore>> & { readonly seed: number })[];
  /** Git commit of the code; null where unknown. */
  readonly commit: string | null;
}

export interface DemoOptions {
  readonly device: Device;
  readonly recipe: DemoRecipe;
  readonly seeds: readonly number[];
  readonly commit: string | null;
  readonly signal?: AbortSignal;
  /** A training begins. */
  readonly onRun?: (name: string) => void;
  readonly onStep?: (name: string, record: StepRecord, steps: number) => void;
}

interface SeedOutcome {
  readonly confusions: Readonly<Record<Method, ConfusionMatrix>>;
  readonly scores: Readonly<Record<Method, MethodScore>>;
  readonly histories: Readonly<Record<"sourceOnly" | "adapted", History>>;
  readonly configs: readonly TrainResult["config"][];
  readonly grid: PictureGrid;
}

/**
 * Trains on the procedural two-city set, once on the source alone and once adversarially for every seed, and compares
 * them on the target.
 * @returns null where `signal` stopped it.
 */
export async function runDemo(options: DemoOptions): Promise<{ html: string; json: DemoReport; table: Table } | null> {
  const { device, recipe, seeds, commit, signal } = options;
  const started = performance.now();
  const dataset = remembered(proceduralDataset(recipe.cities));
  const outcomes: SeedOutcome[] = [];
  for (const seed of seeds) {
    const outcome = await runSeed(options, dataset, seed);
    if (!outcome || signal?.aborted) return null;
    outcomes.push(outcome);
  }
  const seconds = (performance.now() - started) / 1000;
  const { classes } = dataset;
  const mean = (method: Method) =>
    meanScore(
      outcomes.map((o) => o.scores[method]),
      classes,
    );
  const json: DemoReport = {
    device: device.description,
    seconds,
    seeds,
    steps: recipe.steps,
    sourceOnly: mean("sourceOnly"),
    adaBN: mean("adaBN"),
    adapted: mean("adapted"),
    adaptedAdaBN: mean("adaptedAdaBN"),
    perSeed: outcomes.map(({ scores }, i) => ({ seed: seeds[i]!, ...scores })),
    commit,
  };
  const table = compare(outcomes, classes);
  const html = renderReport({
    title: "lacuna: adapting to another city",
    summary: [
      `Mean IoU on the target city: ${percent(json.sourceOnly.targetMIoU)} % source-only, ` +
        `${percent(json.adaBN.targetMIoU)} % with AdaBN, ${percent(json.adapted.targetMIoU)} % adapted; no target label was used.`,
      `Seeds ${seeds.join(", ")}; ${recipe.steps} steps a training; ${Math.round(seconds)} s on ${device.description}` +
        `${commit ? `; commit ${commit.slice(0, 12)}` : ""}.`,
    ],
    tables: [table],
    grids: outcomes.slice(0, 1).map((o) => o.grid),
    classes,
    charts: outcomes
      .slice(0, 1)
      .flatMap(({ histories }) => [
        ...named("Adapted", chartsOf(histories.adapted)),
        ...named("Source-only", chartsOf(histories.sourceOnly)),
      ]),
    confusions: METHODS.map((method) => {
      const sum = new ConfusionMatrix(classes.length, { ignoreIndex: dataset.ignoreIndex });
      for (const { confusions } of outcomes) sum.merge(confusions[method]);
      return confusionTable(`${TITLES[method]}, target, all seeds`, classes, sum);
    }),
    settings: outcomes.slice(0, 1).map((o) => o.configs),
  });
  return { html, json, table };
}

async function runSeed(options: DemoOptions, dataset: Dataset, seed: number): Promise<SeedOutcome | null> {
  const { device, recipe, signal } = options;
  const start = async (method: "sourceOnly" | "adapted", config: PartialConfig): Promise<TrainResult> => {
    const name = `seed ${seed}, ${TITLES[method]}`;
    options.onRun?.(name);
    return train(config, {
      device,
      dataset,
      ...(signal && { signal }),
      onStep: (record) => options.onStep?.(name, record, recipe.steps),
    });
  };
  const common: PartialConfig = { ...recipe.common, seed, steps: recipe.steps };
  const tiles = dataset.split("target", "val");
  const shown = await Promise.all(spread(tiles.length, 4).map((index) => tiles.read(index)));
  const scoreOn = async ({ model, statistics }: TrainResult) => {
    const on = (domain: "source" | "target") =>
      evaluate(model, dataset, dataset.split(domain, "val"), { statistics: statistics[domain] });
    const target = await on("target");
    return { target, score: scoreOf(target, await on("source"), dataset.classes) };
  };
  const paint = async ({ model, statistics }: TrainResult): Promise<Picture[]> => {
    const labels = await predict(model, shown, statistics.target);
    return shown.map(({ height, width }, i) => paintLabels(labels[i]!, height, width, dataset.classes.length));
  };

  using plain = await start("sourceOnly", { ...common, mode: "source-only" });
  if (!plain.finished) return null;
  const sourceOnly = await scoreOn(plain);
  const before = await paint(plain);
  await adaptBatchNorm(plain.model, dataset.split("target", "train"), { statistics: plain.statistics.target });
  const adaBN = await scoreOn(plain);

  using adaptive = await start("adapted", { ...common, ...recipe.adversarial, mode: "adversarial" });
  if (!adaptive.finished) return null;
  const adapted = await scoreOn(adaptive);
  const after = await paint(adaptive);
  await adaptBatchNorm(adaptive.model, dataset.split("target", "train"), { statistics: adaptive.statistics.target });
  const both = await scoreOn(adaptive);
  return {
    confusions: {
      sourceOnly: sourceOnly.target,
      adaBN: adaBN.target,
      adapted: adapted.target,
      adaptedAdaBN: both.target,
    },
    scores: {
      sourceOnly: sourceOnly.score,
      adaBN: adaBN.score,
      adapted: adapted.score,
      adaptedAdaBN: both.score,
    },
    histories: { sourceOnly: plain.history, adapted: adaptive.history },
    configs: [plain.config, adaptive.config],
    grid: {
      title: `The target city, never seen with labels (seed ${seed})`,
      columns: ["image", "truth", "source-only", "adapted"],
      rows: shown.map((tile, i) => {
        const { name, height, width, label } = tile;
        const truth = paintLabels(label ?? [], height, width, dataset.classes.length);
        return { name, pictures: [{ height, width, pixels: displayed(tile) }, truth, before[i]!, after[i]!] };
      }),
    },
  };
}

/** Each split decoded or drawn once for all trainings. */
function remembered(dataset: Dataset): Dataset {
  const splits = new Map<string, ReturnType<Dataset["split"]>>();
  return {
    ...dataset,
    split(domain, split) {
      const key = `${domain}/${split}`;
      const held = splits.get(key) ?? cached(dataset.split(domain, split));
      splits.set(key, held);
      return held;
    },
  };
}

const named = (prefix: string, charts: readonly Chart[]): Chart[] =>
  charts.map((chart) => ({ ...chart, title: `${prefix}: ${chart.title.toLowerCase()}` }));

function scoreOf(target: ConfusionMatrix, source: ConfusionMatrix, classes: readonly string[]): MethodScore {
  const { meanIoU, perClass } = target.scores();
  return {
    targetMIoU: meanIoU,
    perClass: Object.fromEntries(classes.map((name, i) => [name, perClass[i]!.iou])),
    sourceMIoU: source.scores().meanIoU,
  };
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function meanScore(scores: readonly MethodScore[], classes: readonly string[]): MethodScore {
  const perClass = classes.map((name) => {
    const known = scores.map((s) => s.perClass[name] ?? null).filter((v) => v !== null);
    return [name, known.length > 0 ? meanOf(known) : null] as const;
  });
  return {
    targetMIoU: meanOf(scores.map((s) => s.targetMIoU)),
    perClass: Object.fromEntries(perClass),
    sourceMIoU: meanOf(scores.map((s) => s.sourceMIoU)),
  };
}

/** `43.2 ± 1.3`: mean and standard deviation over seeds, percent. */
function spreadOf(values: readonly (number | null)[]): string {
  const known = values.filter((v) => v !== null);
  if (known.length === 0) return percent(null);
  const mean = meanOf(known);
  if (known.length === 1) return percent(mean);
  const deviation = Math.sqrt(known.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (known.length - 1));
  return `${percent(mean)} ± ${percent(deviation)}`;
}

function compare(outcomes: readonly SeedOutcome[], classes: readonly string[]): Table {
  const row = (name: string, value: (score: MethodScore) => number | null) => [
    name,
    ...METHODS.map((method) => spreadOf(outcomes.map((o) => value(o.scores[method])))),
  ];
  return {
    title: `IoU on the target city, percent${outcomes.length > 1 ? `, mean and deviation over ${outcomes.length} seeds` : ""}`,
    columns: ["", ...METHODS.map((method) => TITLES[method])],
    rows: [
      row("mean", (s) => s.targetMIoU),
      ...classes.map((name) => row(name, (s) => s.perClass[name] ?? null)),
      row("source city, mean", (s) => s.sourceMIoU),
    ],
  };
}
