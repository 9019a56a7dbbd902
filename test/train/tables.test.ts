import { describe, expect, it } from "vitest";
import { BoundaryCounts } from "../../src/metrics/boundary.js";
import { ConfusionMatrix } from "../../src/metrics.js";
import { type Protocol, type ScoredRun, scoreJSON, scoreTables, tidyTable } from "../../src/train/score_report.js";
import { showSpread, spreadOf } from "../../src/train/spread.js";
import { csvTable, latexTable, markdownTable, type Table, textTable } from "../../src/train/tables.js";

const table: Table = {
  title: "50 % & more",
  notes: ["seeds 0, 1"],
  columns: ["", "IoU", "F1_x"],
  rows: [
    ["low_veg, other", "43.2 ± 1.3", "–"],
    ['a "b" | c\\d', "7.0", "λ^2"],
  ],
};

describe("a table", () => {
  it("stands aligned in a terminal", () => {
    expect(textTable(table)).toBe(
      [
        "50 % & more",
        "  seeds 0, 1",
        "                          IoU   F1_x",
        "  low_veg, other   43.2 ± 1.3      –",
        '  a "b" | c\\d             7.0    λ^2',
        "",
      ].join("\n"),
    );
  });
  it("is GitHub's Markdown, whatever is in it", () => {
    expect(markdownTable(table).split("\n")).toEqual([
      "**50 % & more**",
      "",
      "seeds 0, 1",
      "",
      "|  | IoU | F1\\_x |",
      "| --- | ---: | ---: |",
      "| low\\_veg, other | 43.2 ± 1.3 | – |",
      '| a "b" \\| c\\\\d | 7.0 | λ^2 |',
      "",
    ]);
  });
  it("is CSV by RFC 4180", () => {
    expect(csvTable({ ...table, rows: [...table.rows, ["two\nlines", "1", ""]] })).toBe(
      ',IoU,F1_x\r\n"low_veg, other",43.2 ± 1.3,–\r\n"a ""b"" | c\\d",7.0,λ^2\r\n"two\nlines",1,\r\n',
    );
  });
  it("is LaTeX for booktabs, names escaped", () => {
    expect(latexTable(table).split("\n")).toEqual([
      "\\begin{table}",
      "  \\centering",
      "  \\caption{50 \\% \\& more. seeds 0, 1.}",
      "  \\begin{tabular}{lrr}",
      "    \\toprule",
      "     & IoU & F1\\_x \\\\",
      "    \\midrule",
      "    low\\_veg, other & 43.2 $\\pm$ 1.3 & -- \\\\",
      "    a \\textquotedbl{}b\\textquotedbl{} \\textbar{} c\\textbackslash{}d & 7.0 & $\\lambda$\\textasciicircum{}2 \\\\",
      "    \\bottomrule",
      "  \\end{tabular}",
      "\\end{table}",
      "",
    ]);
  });
});

describe("a spread", () => {
  const one = (v: number) => v.toFixed(1);
  it("is the mean and the deviation of a sample, of the runs that have the score", () => {
    expect(spreadOf([1, 2, 4.5])).toEqual({ mean: 2.5, sd: Math.sqrt((2.25 + 0.25 + 4) / 2), values: [1, 2, 4.5] });
    expect(spreadOf([null, 3])).toEqual({ mean: 3, sd: null, values: [3] });
    expect([spreadOf([]), spreadOf([null])]).toEqual([null, null]);
    expect(showSpread(spreadOf([1, 3]), one, 2)).toBe("2.0 ± 1.4");
    expect(showSpread(spreadOf([1, null, 3]), one, 3)).toBe("2.0 ± 1.4 (2 of 3)");
    expect(showSpread(spreadOf([3]), one, 1)).toBe("3.0");
    expect(showSpread(null, one, 3)).toBe("–");
  });
});

describe("the scores of runs", () => {
  const classes = ["road", "tree", "clutter"];
  const run = (seed: number, counts: number[]): ScoredRun => {
    const boundary = new BoundaryCounts(3);
    boundary.add([0, 0, 1, 1], [0, seed, 1, 1], 1, 4);
    return {
      name: `run ${seed}`,
      mode: "source-only",
      seed,
      step: 10,
      splits: [
        {
          domain: "target",
          tiles: 4,
          confusion: ConfusionMatrix.from({ classes: 3, ignoreIndex: 255, counts }),
          boundary,
          boundaryIgnoring: boundary,
        },
      ],
    };
  };
  const runs = [run(0, [6, 2, 0, 0, 8, 0, 3, 1, 0]), run(1, [8, 0, 0, 4, 4, 0, 4, 0, 0])];
  const protocol: Protocol = {
    dataset: "city",
    tag: "v1/eroded",
    classes,
    checkpoint: "best",
    augmentation: ["flip"],
    views: 2,
    tolerance: 2,
    exclude: [2],
  };

  it("are means and deviations over runs under each convention", () => {
    const [means, all, ignored] = scoreTables(runs, protocol);
    expect(means!.rows.map(([name]) => name)).toEqual(["all classes", "without clutter", "pixels of clutter ignored"]);
    const iou = (rows: readonly (readonly number[])[]) => {
      const [mean, sd] = [rows.flat().reduce((a, b) => a + b, 0) / rows.flat().length, 0];
      const each = rows.map((r) => r.reduce((a, b) => a + b, 0) / r.length);
      const centre = each.reduce((a, b) => a + b, 0) / each.length;
      const deviation = Math.sqrt(each.reduce((s, v) => s + (v - centre) ** 2, sd) / (each.length - 1));
      return `${(100 * mean).toFixed(1)} ± ${(100 * deviation).toFixed(1)}`;
    };
    const kept = [
      [6 / 11, 8 / 11],
      [8 / 16, 4 / 8],
    ];
    expect(means!.rows.map((row) => row[1])).toEqual([
      iou(kept.map((r) => [...r, 0])),
      iou(kept),
      iou([
        [6 / 8, 8 / 10],
        [8 / 12, 4 / 8],
      ]),
    ]);
    expect(means!.rows.map((row) => row[4])).toEqual(["65.0 ± 7.1", "65.0 ± 7.1", "81.3 ± 8.8"]); // overall accuracy
    expect(all!.rows.map(([name]) => name)).toEqual(classes);
    expect(ignored!.rows.map(([name]) => name)).toEqual(["road", "tree"]);
  });

  it("say by which protocol they were counted", () => {
    for (const { notes, title } of scoreTables(runs, protocol)) {
      expect(title).toMatch(/^city, target\/val: /);
      const text = notes!.join("\n");
      for (const part of [
        "v1/eroded",
        "best checkpoint, step 10",
        "over 2 runs, seeds 0, 1",
        "flip (2 views)",
        "2 pixels",
      ])
        expect(text).toContain(part);
      expect(text).toMatch(/without clutter: .* ignored: /);
    }
    const plain = scoreTables(runs.slice(0, 1), {
      ...protocol,
      tag: null,
      augmentation: [],
      tolerance: null,
      exclude: [],
    });
    expect(plain[0]!.notes!.join(" ")).toMatch(/not stated.*one run, seed 0.*augmentation: none.*0\.75 % of/);
  });

  it("are complete, and the same, in CSV and JSON", () => {
    const tidy = tidyTable(runs, protocol);
    const at = (name: string) => tidy.columns.indexOf(name);
    const line = tidy.rows.find(
      (row) => row[at("convention")] === "ignored" && row[at("class")] === "road" && row[at("metric")] === "IoU",
    )!;
    const json = JSON.parse(JSON.stringify(scoreJSON(runs, protocol)));
    const { mean, sd, values } = json.summary.target.ignored.perClass.road.IoU;
    expect(values).toEqual([6 / 8, 8 / 12]);
    expect([line[at("mean")], line[at("sd")], line[at("runs")]].map(Number)).toEqual([mean, sd, 2]);
    expect(line[at("protocol")]).toBe("v1/eroded");
    expect(tidy.rows.every((row) => row.length === tidy.columns.length)).toBe(true);
    expect(json).toMatchObject({ protocol: "v1/eroded", excluded: ["clutter"], boundaryTolerance: 2, views: 2 });
    expect(json.runs[1].splits.target.all.confusion).toEqual([
      [8, 0, 0],
      [4, 4, 0],
      [4, 0, 0],
    ]);
    expect(json.runs[0].boundaryCounts.target.counts).toHaveLength(12);
  });
});
