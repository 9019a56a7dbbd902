import { describe, expect, it } from "vitest";
import { runDemo } from "../../src/train/demo.js";
import { DEMO_ON_REFERENCE, type DemoRecipe } from "../../src/train/demo_recipe.js";
import { classColour, differenceKey, paintDifference, paintLabels } from "../../src/train/report/pictures.js";
import { type Report, renderReport } from "../../src/train/report.js";
import { representatives } from "../../src/train/representatives.js";
import { referenceDevice } from "../harness.js";

const empty: Report = {
  title: "t",
  summary: [],
  tables: [],
  grids: [],
  classes: [],
  charts: [],
  confusions: [],
  settings: {},
};
/** Whatever a browser would fetch. */
const outside = (html: string) => html.match(/(?:src|href)="(?!data:image\/png;base64,)|url\(|@import|https?:/g);

describe("renderReport", () => {
  it("escapes every text it is given", () => {
    const evil = `<script>alert("x")</script>&'`;
    const html = renderReport({
      title: evil,
      summary: [evil],
      tables: [{ title: evil, notes: [evil], columns: [evil], rows: [[evil]] }],
      bars: [{ title: evil, groups: [evil], series: [{ name: evil, values: [0.5] }] }],
      grids: [
        {
          title: evil,
          key: [{ name: evil, colour: "red" }],
          columns: [evil],
          rows: [{ name: evil, pictures: [paintLabels([0], 1, 1, 1)] }],
        },
      ],
      facts: [[evil, evil]],
      classes: [evil],
      charts: [
        {
          title: evil,
          x: evil,
          series: [
            {
              name: evil,
              points: [
                [0, 1],
                [1, 2],
              ],
            },
          ],
        },
      ],
      confusions: [{ title: evil, classes: [evil], counts: [[1]] }],
      settings: { evil },
    });
    expect(html).not.toMatch(/<script/);
    expect(html.match(/&#60;script&#62;/g)!.length).toBeGreaterThan(10);
    expect(outside(html)).toBeNull();
  });

  it("draws a line a series inside the frame, whatever the values", () => {
    const points = (values: readonly number[]) => values.map((y, x) => [x, y] as const);
    const series = [
      { name: "steady", points: points(Array(2000).fill(3)) },
      { name: "rising", points: points(Array.from({ length: 1000 }, (_, i) => 1e-3 * i ** 2)) },
      { name: "gaps", points: points([1, Number.NaN, 2, Number.POSITIVE_INFINITY, 3]) },
      { name: "one", points: points([7]) },
    ];
    const html = renderReport({ ...empty, charts: [{ title: "c", x: "step", series }] });
    const lines = [...html.matchAll(/<polyline[^>]*points="([^"]*)"/g)].map((m) =>
      m[1]!.split(" ").map((p) => p.split(",").map(Number)),
    );
    expect(lines.map((line) => line.length)).toEqual([240, 240, 3]);
    for (const [x, y] of lines.flat()) {
      expect(x).toBeGreaterThanOrEqual(48);
      expect(x).toBeLessThanOrEqual(472);
      expect(y).toBeGreaterThanOrEqual(8);
      expect(y).toBeLessThanOrEqual(208);
    }
    expect(html).toContain("<circle");
    expect(renderReport({ ...empty, charts: [{ title: "c", x: "x", series: [] }] })).not.toContain("<svg");
    expect(html).not.toContain("NaN");
  });

  it("draws a bar a class and series, from 0 to 1, with its number", () => {
    const series = [
      { name: "source", values: [0.5, 0, 1] },
      { name: "target", values: [0.25, null, 0.125] },
    ];
    const groups = ["road", "tree", "a class of a name that is far longer than there is room for it in any chart"];
    const html = renderReport({ ...empty, bars: [{ title: "IoU", groups, series }] });
    const numbers = (name: string) =>
      [...html.matchAll(new RegExp(`<rect[^>]* ${name}="([\\d.]+)"`, "g"))].map((m) => Number(m[1]));
    const [widths, lefts] = [numbers("width"), numbers("x")];
    const full = Math.max(...widths);
    expect(widths.map((w) => w / full)).toEqual([0.5, 0.25, 0, 0, 1, 0.125].map((v) => expect.closeTo(v, 2)));
    lefts.forEach((x, i) => {
      expect(x + widths[i]!).toBeLessThanOrEqual(480 - 44);
    });
    expect(html).toMatch(/road, source: 50\.0/);
    expect(html).toMatch(/tree, target: –/);
    expect(html).not.toContain("NaN");
    expect(renderReport({ ...empty, bars: [{ title: "IoU", groups: [], series }] })).not.toContain("<svg");
  });

  it("shows true and false positives and negatives of two classes, right and wrong of more", () => {
    const coloursOf = (classes: number, labels: number[], predictions: number[]) => {
      const { pixels } = paintDifference(labels, predictions, 1, labels.length, classes);
      const names = new Map(differenceKey(classes).map(({ name, colour }) => [colour, name.replace(/ \(.*/, "")]));
      return labels.map((_, i) => names.get(`rgb(${[...pixels.subarray(3 * i, 3 * i + 3)].join(" ")})`));
    };
    expect(coloursOf(2, [1, 0, 1, 0, 255], [1, 1, 0, 0, 1])).toEqual([
      ...["found", "invented", "missed", "rightly left", "ignored"],
    ]);
    expect(coloursOf(3, [0, 1, 2, 255], [0, 2, 2, 0])).toEqual(["right", "wrong", "right", "ignored"]);
  });

  it("gives every class a colour of its own, and none to what is ignored", () => {
    expect(new Set(Array.from({ length: 40 }, (_, i) => classColour(i).join())).size).toBe(40);
    expect([...paintLabels([0, 255, 1], 1, 3, 2).pixels]).toEqual([...classColour(0), 0, 0, 0, ...classColour(1)]);
  });
});

describe("representatives", () => {
  it("are the worst, those in the middle and the best, none twice", () => {
    const of = (scores: (number | null)[], each = 2) =>
      representatives(scores, each).map((r) => `${r.rank} ${r.index}`);
    expect(of([0.5, 0.1, 0.9, 0.3, 0.7, null, 0.2, 0.8, 0.4, 0.6])).toEqual([
      ...["worst 1", "worst 6", "median 8", "median 0", "best 7", "best 2"],
    ]);
    expect(of([0.2, 0.1])).toEqual(["worst 1", "best 0"]);
    expect(of([0.2, 0.1, 0.3])).toEqual(["worst 1", "median 0", "best 2"]);
    expect(of([3, 1, 2, 4])).toEqual(["worst 1", "worst 2", "best 0", "best 3"]);
    expect(of([null, 1])).toEqual(["only 1"]);
    expect(of([null])).toEqual([]);
    expect(of([1, 1, 1, 1, 1, 1, 1], 1)).toEqual(["worst 0", "median 3", "best 6"]);
  });
});

describe("the demo", () => {
  const recipe: DemoRecipe = {
    ...DEMO_ON_REFERENCE,
    cities: { size: 16, train: 2, val: 2, seed: 0 },
    steps: 1,
    common: { ...DEMO_ON_REFERENCE.common, crop: 16, model: { width: 0.125, imagePooling: "group" } },
  };
  const options = { device: referenceDevice(), recipe, seeds: [0, 1], commit: "abc" };

  it("compares three methods over seeds, in numbers and in a page", async () => {
    const names: string[] = [];
    const { html, json, table } = (await runDemo({ ...options, onRun: (name) => names.push(name) }))!;
    expect(names).toEqual(["seed 0, source-only", "seed 0, adapted", "seed 1, source-only", "seed 1, adapted"]);
    expect(json).toMatchObject({ device: options.device.description, seeds: [0, 1], steps: 1, commit: "abc" });
    expect(json.seconds).toBeGreaterThan(0);
    for (const method of ["sourceOnly", "adaBN", "adapted", "adaptedAdaBN"] as const) {
      const each = json.perSeed.map((s) => s[method].targetMIoU);
      expect(json[method].targetMIoU).toBeCloseTo((each[0]! + each[1]!) / 2, 12);
      expect(Object.keys(json[method].perClass)).toEqual(["ground", "building", "road", "tree", "water"]);
    }
    expect(json.perSeed.map((s) => s.seed)).toEqual([0, 1]);
    expect(JSON.parse(JSON.stringify(json))).toEqual(json);
    expect(table.columns).toEqual(["", "source-only", "AdaBN", "adapted", "adapted + AdaBN"]);
    expect(table.rows).toHaveLength(7);
    expect(html.match(/data:image\/png/g)).toHaveLength(2 * 4);
    expect(outside(html)).toBeNull();
  });

  it("stops when told to", async () => {
    const stop = new AbortController();
    expect(await runDemo({ ...options, signal: stop.signal, onStep: () => stop.abort() })).toBeNull();
  });
});
