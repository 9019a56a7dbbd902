import type { Domain } from "../data/dataset.js";
import type { Mode } from "./config.js";
import { countsOf, percent } from "./scores.js";
import { type Convention, type ConventionScores, conventionsOf, type SplitCounts } from "./split_counts.js";
import { type Spread, showSpread, spreadOf } from "./spread.js";
import type { Table } from "./tables.js";

/** One evaluated run. */
export interface ScoredRun {
  /** Its folder, as it was named. */
  readonly name: string;
  readonly mode: Mode;
  readonly seed: number;
  /** Steps that the evaluated checkpoint has behind it. */
  readonly step: number;
  /** One for each val split that exists, the same for every run. */
  readonly splits: readonly SplitCounts[];
}

/** What all runs of a report share, and every table says. */
export interface Protocol {
  readonly dataset: string;
  /** The data set's protocol tag; null where it has none. */
  readonly tag: string | null;
  readonly classes: readonly string[];
  readonly checkpoint: "last" | "best";
  /** Test-time augmentation: `flip`, `rot90` and scales other than 1 alone; empty: none. */
  readonly augmentation: readonly string[];
  /** Views of each tile. */
  readonly views: number;
  /** Of boundaries, pixels; null: 0.75 % of each tile's diagonal. */
  readonly tolerance: number | null;
  /** Indices of classes that are also left out. */
  readonly exclude: readonly number[];
}

/** Whole-split scores in the order of tables. */
const MEANS = [
  ["mIoU", ({ scores }) => scores.meanIoU],
  ["mF1", ({ scores }) => scores.meanF1],
  ["mean accuracy", ({ scores }) => scores.meanAccuracy],
  ["OA", ({ scores }) => scores.overallAccuracy],
  ["FWIoU", ({ scores }) => scores.frequencyWeightedIoU],
  ["kappa", ({ scores }) => scores.kappa],
  ["boundary F1", ({ boundary }) => boundary.meanF1],
] as const satisfies readonly (readonly [string, (found: ConventionScores) => number | null])[];

/** Scores of a class in the order of tables. */
const OF_CLASS = [
  ["IoU", ({ scores }, c) => scores.perClass[c]!.iou],
  ["F1", ({ scores }, c) => scores.perClass[c]!.f1],
  ["precision", ({ scores }, c) => scores.perClass[c]!.precision],
  ["recall", ({ scores }, c) => scores.perClass[c]!.recall],
  ["boundary F1", ({ boundary }, c) => boundary.perClass[c]!.f1],
] as const satisfies readonly (readonly [string, (found: ConventionScores, c: number) => number | null])[];

/** One convention on one split, of all runs in their order. */
interface Group {
  readonly domain: Domain;
  readonly tiles: number;
  readonly convention: Convention;
  readonly runs: readonly ConventionScores[];
}

function groupsOf(runs: readonly ScoredRun[], exclude: readonly number[]): Group[] {
  return (runs[0]?.splits ?? []).flatMap(({ domain, tiles }, i) => {
    const each = runs.map((run) => conventionsOf(run.splits[i]!, exclude));
    return each[0]!.map(({ convention }, k) => ({ domain, tiles, convention, runs: each.map((found) => found[k]!) }));
  });
}

/** Classes that count under a convention. */
const counted = ({ classes, exclude }: Protocol, convention: Convention): number[] =>
  [...classes.keys()].filter((c) => convention === "all" || !exclude.includes(c));

/** Tables of means and of classes for every split, percent but for kappa: what a paper prints. */
export function scoreTables(runs: readonly ScoredRun[], protocol: Protocol): Table[] {
  const { classes, dataset, exclude } = protocol;
  const names = exclude.map((c) => classes[c]!).join(", ");
  const titles = { all: "all classes", excluded: `without ${names}`, ignored: `pixels of ${names} ignored` };
  const groups = groupsOf(runs, exclude);
  const shown = (values: readonly (number | null)[], name: string) =>
    showSpread(spreadOf(values), name === "kappa" ? (v) => v.toFixed(3) : percent, runs.length);
  const on = (domain: Domain) => groups.filter((group) => group.domain === domain);
  return [...new Set(groups.map(({ domain }) => domain))].flatMap((domain) => {
    const notes = notesOf(runs, protocol, on(domain));
    const means: Table = {
      title: `${dataset}, ${domain}/val: means`,
      notes,
      columns: ["", ...MEANS.map(([name]) => name)],
      rows: on(domain).map((group) => [
        titles[group.convention],
        ...MEANS.map(([name, score]) => shown(group.runs.map(score), name)),
      ]),
    };
    // Without an excluded class, a class has the scores that it has with it.
    const byClass = on(domain).filter(({ convention }) => convention !== "excluded");
    return [
      means,
      ...byClass.map((group): Table => {
        const suffix = group.convention === "all" ? "" : `, ${titles[group.convention]}`;
        const rowOf = (c: number) =>
          OF_CLASS.map(([name, score]) =>
            shown(
              group.runs.map((run) => score(run, c)),
              name,
            ),
          );
        return {
          title: `${dataset}, ${domain}/val: classes${suffix}`,
          notes,
          columns: ["", ...OF_CLASS.map(([name]) => name)],
          rows: counted(protocol, group.convention).map((c) => [classes[c]!, ...rowOf(c)]),
        };
      }),
    ];
  });
}

/** What must be known to compare the numbers. */
function notesOf(runs: readonly ScoredRun[], protocol: Protocol, groups: readonly Group[]): string[] {
  const { classes, checkpoint, augmentation, views, tag, tolerance, exclude } = protocol;
  const steps = [...new Set(runs.map(({ step }) => step))].sort((a, b) => a - b);
  const modes = [...new Set(runs.map(({ mode }) => mode))].join(", ");
  const [all] = groups;
  const absent = [...classes.keys()].filter((c) => all?.runs.some(({ scores }) => scores.absent.includes(c)));
  const names = exclude.map((c) => classes[c]!).join(", ");
  const several = `mean ± standard deviation (n − 1) over ${runs.length} runs, seeds ${runs.map(({ seed }) => seed).join(", ")}`;
  return [
    `Percent, kappa from −1 to 1; counted over ${all?.tiles ?? 0} tiles together; protocol ${tag ?? "not stated"}`,
    `${modes}, ${checkpoint} checkpoint, ${steps.length > 1 ? "steps" : "step"} ${steps.join(", ")}; ` +
      `${runs.length > 1 ? several : `one run, seed ${runs[0]?.seed}`}`,
    `Test-time augmentation: ${augmentation.length > 0 ? `${augmentation.join(", ")} (${views} views)` : "none"}; ` +
      `boundary F1 within ${tolerance === null ? "0.75 % of a tile's diagonal" : `${tolerance} pixels`}`,
    ...(exclude.length > 0
      ? [
          `without ${names}: only the means leave it out, its confusion with others is their error; ` +
            `pixels of ${names} ignored: where it is labelled nothing counts`,
        ]
      : []),
    ...(absent.length > 0
      ? [`Neither labelled nor predicted, in no mean: ${absent.map((c) => classes[c]!).join(", ")}`]
      : []),
  ];
}

/** Every score in full precision, a line each: for programs and spreadsheets. Fractions, not percent. */
export function tidyTable(runs: readonly ScoredRun[], protocol: Protocol): Table {
  const { classes, exclude } = protocol;
  const steps = [...new Set(runs.map(({ step }) => step))].join(" ");
  const fixed = [
    protocol.dataset,
    protocol.tag ?? "",
    protocol.checkpoint,
    steps,
    protocol.augmentation.join(" "),
    `${protocol.tolerance ?? ""}`,
    exclude.map((c) => classes[c]!).join(" "),
  ];
  const numbers = (spread: Spread | null) => [spread?.mean, spread?.sd, spread?.values.length ?? 0];
  const rows = groupsOf(runs, exclude).flatMap((group) => {
    const line = (name: string, metric: string, values: readonly (number | null)[]) => [
      ...fixed,
      `${group.domain}/val`,
      group.convention,
      name,
      metric,
      ...numbers(spreadOf(values)).map((value) => `${value ?? ""}`),
    ];
    return [
      ...MEANS.map(([metric, score]) => line("", metric, group.runs.map(score))),
      ...counted(protocol, group.convention).flatMap((c) =>
        OF_CLASS.map(([metric, score]) =>
          line(
            classes[c]!,
            metric,
            group.runs.map((run) => score(run, c)),
          ),
        ),
      ),
    ];
  });
  const columns = ["dataset", "protocol", "checkpoint", "steps", "augmentation", "boundary_pixels", "left_out"];
  return {
    title: "scores",
    columns: [...columns, "split", "convention", "class", "metric", "mean", "sd", "runs"],
    rows,
  };
}

/** Everything, confusion matrices and boundary counts of every run included. */
export function scoreJSON(runs: readonly ScoredRun[], protocol: Protocol): unknown {
  const { classes, exclude, tag, tolerance, ...rest } = protocol;
  const groups = groupsOf(runs, exclude);
  const nested = (of: (group: Group) => unknown) =>
    Object.fromEntries(
      [...new Set(groups.map(({ domain }) => domain))].map((domain) => [
        domain,
        Object.fromEntries(groups.filter((g) => g.domain === domain).map((g) => [g.convention, of(g)])),
      ]),
    );
  return {
    ...rest,
    protocol: tag,
    boundaryTolerance: tolerance,
    classes,
    excluded: exclude.map((c) => classes[c]!),
    summary: nested((group) => ({
      ...Object.fromEntries(MEANS.map(([name, score]) => [name, spreadOf(group.runs.map(score))])),
      perClass: Object.fromEntries(
        counted(protocol, group.convention).map((c) => [
          classes[c]!,
          Object.fromEntries(OF_CLASS.map(([name, score]) => [name, spreadOf(group.runs.map((run) => score(run, c)))])),
        ]),
      ),
    })),
    runs: runs.map(({ name, mode, seed, step, splits }, i) => ({
      run: name,
      mode,
      seed,
      step,
      tiles: Object.fromEntries(splits.map(({ domain, tiles }) => [domain, tiles])),
      boundaryCounts: Object.fromEntries(splits.map(({ domain, boundary }) => [domain, boundary.toJSON()])),
      splits: nested((group) => {
        const { scores, boundary, confusion } = group.runs[i]!;
        return { ...scores, boundary, confusion: countsOf(confusion) };
      }),
    })),
  };
}
