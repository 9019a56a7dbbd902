import { join } from "node:path";
import { writeAtomic } from "../checkpoint/index.js";
import { FolderDataset } from "../data/folder.js";
import { type Device, open } from "../device.js";
import { backbones } from "../models/index.js";
import { DEFAULT_CONFIG, type PartialConfig, resolveConfig } from "../train/config.js";
import { writeRunReport } from "../train/run_report.js";
import { train } from "../train/train.js";
import { type Command, parseOptions, required, UsageError, wholeNumber } from "./command.js";
import { applySetting, mergeConfig, readConfigFile } from "./config_file.js";
import { deviceName } from "./device_option.js";
import { Interrupt } from "./interrupt.js";
import { formatTime, Progress } from "./progress.js";

export const trainCommand: Command = {
  name: "train",
  summary: "train on a folder of tiles, with or without adaptation",
  help: `Usage: lacuna train --data DIR --out DIR [options]

Trains a DeepLabV3+ on the tiles of {source,target}/{train,val}/{images,labels} in DIR. An unfinished run in the output
folder is continued. Ctrl-C finishes the step and saves; typed twice, it stops at once.

  --data DIR        tiles: PNG, JPEG or TIFF; labels 8-bit class indices, 255 = ignore
  --out DIR         checkpoint.safetensors, report.html and report.json
  --mode MODE       adversarial (default) or source-only
  --backbone NAME   ${backbones.join(", ")}
  --width FACTOR    scales every channel count
  --crop PIXELS     side of training crops
  --batch N         crops of each domain in a step
  --steps N
  --seed N
  --classes A,B,…   names in index order, where the folder has no dataset.json
  --device NAME     webgpu or reference (default: the first that opens)
  --config FILE     YAML or JSON; the options above have precedence
  --set KEY=VALUE   any entry, such as optim.lr=0.01; may be repeated, has precedence over everything

Entries and their defaults:
${indent(JSON.stringify(DEFAULT_CONFIG, null, 2))}`,
  async run(args, terminal) {
    const options = parseOptions("train", args, {
      data: { type: "string" },
      out: { type: "string" },
      mode: { type: "string" },
      backbone: { type: "string" },
      width: { type: "string" },
      crop: { type: "string" },
      batch: { type: "string" },
      steps: { type: "string" },
      seed: { type: "string" },
      classes: { type: "string" },
      device: { type: "string" },
      config: { type: "string" },
      set: { type: "string", multiple: true, default: [] },
    });
    const data = required("train", "data", options.data);
    const folder = required("train", "out", options.out);
    let partial = options.config === undefined ? {} : await readConfigFile(options.config);
    partial = mergeConfig(partial, fromFlags(options));
    for (const setting of options.set) partial = applySetting(partial, setting);
    const config = resolveConfig(partial);
    const dataset = await FolderDataset.open(
      data,
      options.classes === undefined ? {} : { classes: options.classes.split(",") },
    );
    using device: Device = await open(deviceName(options.device));
    const progress = new Progress(terminal);
    using interrupt = new Interrupt((signal) =>
      progress.say(`${signal}: finishing the step and saving; again to stop at once`),
    );
    progress.say(`${device.description}; ${dataset.name}: ${dataset.classes.join(", ")}`);
    const { signal } = interrupt;
    using result = await train(config, {
      device,
      dataset,
      folder,
      signal,
      onStep: (record) => progress.step(config.mode, record, config.steps),
      onEvaluation: ({ step, sourceMeanIoU, targetMeanIoU }) => {
        const shown = (value: number | null) => (value === null ? "–" : (100 * value).toFixed(1));
        progress.say(`step ${step}: mean IoU source ${shown(sourceMeanIoU)}, target ${shown(targetMeanIoU)}`);
      },
    });
    progress.end();
    if (interrupt.code !== null) {
      progress.say(`stopped at step ${result.step} of ${config.steps}; the same command continues the run`);
      return interrupt.code;
    }
    let report: Awaited<ReturnType<typeof writeRunReport>>;
    try {
      report = await writeRunReport(result, dataset, device, signal);
    } catch (error) {
      if (interrupt.code !== null) return interrupt.code; // the checkpoint is complete; the same command reports
      throw error;
    }
    await writeAtomic(join(folder, "report.html"), report.html);
    await writeAtomic(join(folder, "report.json"), `${JSON.stringify(report.json, null, 2)}\n`);
    for (const line of report.summary) progress.say(line);
    progress.say(`${formatTime(result.history.seconds)} of training; report: ${join(folder, "report.html")}`);
    return interrupt.code ?? 0;
  },
};

function indent(text: string): string {
  return text.replace(/^/gm, "  ");
}

/** The entries that the short options stand for. */
function fromFlags(options: Readonly<Record<string, unknown>>): PartialConfig {
  const { mode, backbone, width, crop, batch, steps, seed } = options as Readonly<Record<string, string | undefined>>;
  const whole = (name: string, value: string | undefined, max: number) =>
    value === undefined ? undefined : wholeNumber(name, value, 0, max);
  const factor = width === undefined || width === "" ? Number.NaN : Number(width);
  if (width !== undefined && !Number.isFinite(factor)) throw new UsageError(`--width must be a number, not "${width}"`);
  const size = whole("batch", batch, 4096);
  const entries = {
    mode,
    crop: whole("crop", crop, 1e6),
    steps: whole("steps", steps, 1e9),
    seed: whole("seed", seed, 2 ** 32 - 1),
    batch: size === undefined ? undefined : { source: size, target: size },
    model: { backbone, width: width === undefined ? undefined : factor },
  };
  return JSON.parse(JSON.stringify(entries)) as PartialConfig; // drops what is undefined; values are checked later
}
