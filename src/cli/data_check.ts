import { stat } from "node:fs/promises";
import { examineImage, type ImageFacts } from "../data/check/examine.js";
import { percent } from "../data/check/finding.js";
import { type CheckReport, checkDataset, type Finding, type PlannedTraining, type Severity } from "../data/check.js";
import { DataError } from "../errors.js";
import { asppRates } from "../models/index.js";
import { type PartialConfig, resolveConfig, type TrainConfig } from "../train/config.js";
import { parseArguments, type Terminal, UsageError } from "./command.js";
import { applySetting, readConfigFile } from "./config_file.js";
import { EXIT } from "./exit_code.js";

/** Files named per kind of finding; the rest is counted. */
const SHOWN = 8;

export const DATA_CHECK_HELP = `Usage: lacuna data check DIR [--classes A,B,…] [--config FILE] [--set KEY=VALUE] [--json]
       lacuna data check FILE [--json]

Goes through every tile of {source,target}/{train,val}/{images,labels} in DIR and says what would stop or spoil a
training: files that cannot be read, images without label, values that are no class, colours instead of indices, sizes
and bands that differ, tiles that are in train and in val, empty tiles, absent classes, balance, channel statistics.
An image or label FILE instead of DIR: what it is, and whether all of it can be read.

  --classes A,B,…   names in index order, where the folder has no dataset.json
  --config FILE     also hold the data against this training: crop, batch, ASPP rates
  --set KEY=VALUE   an entry of it, such as crop=512; may be repeated
  --json            everything as one JSON object

Exits with 0, or with 3 where there is an error.`;

/** @returns 3 where there is an error among the findings, else 0. */
export async function dataCheck(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values, positionals } = parseArguments("data", args, {
    classes: { type: "string" },
    config: { type: "string" },
    set: { type: "string", multiple: true, default: [] },
    json: { type: "boolean", default: false },
  });
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError("data check takes one folder or file");
  const found = await stat(path).catch(() => null);
  if (!found) throw new DataError(path, "no such file or folder");
  if (!found.isDirectory()) {
    const facts = await examineImage(path);
    terminal.stdout.write(`${values.json ? JSON.stringify(fileJson(facts), null, 2) : fileLines(facts).join("\n")}\n`);
    return EXIT.ok;
  }
  const report = await checkDataset(path, {
    ...(values.classes === undefined ? {} : { classes: values.classes.split(",") }),
    ...(values.config === undefined && values.set.length === 0 ? {} : { training: await plan(values) }),
    onTile: (done, total) => {
      if (terminal.stderr.isTTY)
        terminal.stderr.write(`\r${done} of ${total} tiles${done === total ? "\r\u001b[2K" : ""}`);
    },
  });
  terminal.stdout.write(`${values.json ? JSON.stringify(report, null, 2) : reportLines(report).join("\n")}\n`);
  return report.findings.some(({ severity }) => severity === "error") ? EXIT.input : EXIT.ok;
}

async function plan({ config, set }: { readonly config?: string; readonly set: string[] }): Promise<PlannedTraining> {
  let partial: PartialConfig = config === undefined ? {} : (await readConfigFile(config)).config;
  for (const setting of set) partial = applySetting(partial, setting);
  return plannedTraining(resolveConfig(partial));
}

/** What of a configuration concerns the data. */
export function plannedTraining({ mode, crop, batch, jointBatch, normalise, model }: TrainConfig): PlannedTraining {
  return {
    adversarial: mode !== "source-only",
    crop,
    batch,
    jointBatch,
    outputStride: model.outputStride,
    asppRates: asppRates(model.variant, model.outputStride),
    wholeStrides: model.variant === "smp",
    batchNormPooling: model.imagePooling === "batch",
    needsTarget: normalise === "domain",
  };
}

function reportLines(report: CheckReport): string[] {
  const { root, classes, ignore, protocol, splits, findings } = report;
  const named = classes ? `${classes.length} classes (${classes.join(", ")})` : "classes not named";
  const lines = [`${root}: ${named}, ignore ${ignore}${protocol === null ? "" : `, protocol ${protocol}`}`];
  const width = Math.max(0, ...splits.map(({ name }) => name.length));
  for (const { name, tiles, sizes, kinds, mean, deviation, lost, classes: shares, ignored } of splits) {
    const [size, kind] = [keysOf(sizes), keysOf(kinds)];
    lines.push("", `${name.padEnd(width)}  ${tiles} tiles${tiles > 0 ? ` of ${size}, ${kind}` : ""}`);
    if (mean && deviation) {
      const bands = mean.map((m, band) => `${short(m)} ± ${short(deviation[band]!)}`);
      lines.push(`  bands   ${bands.join(", ")}${lost > 0 ? `; no data ${percent(lost)}` : ""}`);
    }
    if (shares && classes) {
      const text = classes.map((label, index) => `${label} ${percent(shares[index]!)}`).join(", ");
      lines.push(`  labels  ${text}${ignored === null || ignored === 0 ? "" : `; ignored ${percent(ignored)} of all`}`);
    }
  }
  for (const severity of ["error", "warning", "note"] as const) {
    const some = findings.filter((finding) => finding.severity === severity);
    if (some.length > 0) lines.push("", ...severityLines(severity, some));
  }
  const [errors, warnings] = (["error", "warning"] as const).map(
    (severity) => findings.filter((finding) => finding.severity === severity).length,
  );
  lines.push(
    "",
    errors === 0 && warnings === 0 ? "clean" : `${counted(errors!, "error")}, ${counted(warnings!, "warning")}`,
  );
  return lines;
}

function severityLines(severity: Severity, findings: readonly Finding[]): string[] {
  const codes = [...new Set(findings.map(({ code }) => code))];
  const lines = [`${severity.toUpperCase()}S`];
  for (const code of codes) {
    const some = findings.filter((finding) => finding.code === code);
    lines.push(`  ${code} (${some.length})`);
    for (const { file, message } of some.slice(0, SHOWN))
      lines.push(`    ${file === null ? "" : `${file}: `}${message}`);
    if (some.length > SHOWN) lines.push(`    … and ${some.length - SHOWN} more`);
  }
  return lines;
}

const counted = (n: number, what: string): string => `${n === 0 ? "no" : n} ${what}${n === 1 ? "" : "s"}`;
const keysOf = (counts: Readonly<Record<string, number>>): string => Object.keys(counts).slice(0, 4).join(" and ");
const short = (value: number): string =>
  Math.abs(value) >= 100 ? value.toFixed(1) : String(Number(value.toPrecision(3)));

function fileLines({ info, lost, notANumber, infinite, measured, bands }: ImageFacts): string[] {
  const { file, format, width, height, type, bits, colour, noData, alphaBand, geo, overviews, block, palette } = info;
  const colours = palette ? ` of ${palette.length / 3} colours` : "";
  const rows: [string, string][] = [
    ["size", `${width} x ${height} pixels, read best in ${block.width} x ${block.height}`],
    ["bands", `${info.bands}${alphaBand === null ? "" : `, the ${alphaBand + 1}th is alpha`}, ${colour}${colours}`],
    ["samples", `${type}, ${bits} bits in the file`],
    ["EPSG", String(geo?.epsg ?? "none")],
    ["transform", geo?.transform ? geo.transform.join(", ") : "none"],
    ["no-data", noData === null ? "none" : String(noData)],
    ["overviews", overviews.map((o) => `${o.width} x ${o.height}`).join(", ") || "none"],
    ["unmeasured", lost === 0 ? "no pixel" : `${lost} pixels, ${percent(lost / (width * height))}`],
  ];
  if (notANumber > 0) rows.push(["NaN", `${notANumber} samples`]);
  if (infinite > 0) rows.push(["infinite", `${infinite} samples`]);
  if (measured > 0) {
    bands.forEach(({ sum, min, max }, band) => {
      rows.push([`band ${band + 1}`, `${short(min)} … ${short(max)}, mean ${short(sum / measured)}`]);
    });
  }
  return [`${file}: ${format.toUpperCase()}`, ...rows.map(([name, text]) => `  ${name.padEnd(11)} ${text}`)];
}

/** NaN as a text, which JSON has no number for; tags and palette, which are bytes, by their count. */
function fileJson({ info, hash, lost, notANumber, infinite, measured, bands }: ImageFacts): unknown {
  const { geo, palette, noData, ...rest } = info;
  return {
    ...rest,
    noData: noData !== null && !Number.isFinite(noData) ? String(noData) : noData,
    paletteEntries: palette ? palette.length / 3 : null,
    epsg: geo?.epsg ?? null,
    transform: geo?.transform ?? null,
    sha256: hash,
    unmeasuredPixels: lost,
    nanSamples: notANumber,
    infiniteSamples: infinite,
    bandStatistics: bands.map(({ sum, square, min, max }) => {
      if (measured === 0) return null;
      const mean = sum / measured;
      return { min, max, mean, deviation: Math.sqrt(Math.max(0, square / measured - mean * mean)) };
    }),
  };
}
