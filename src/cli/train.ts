import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { FolderDataset } from "../data/folder.js";
import { type Device, open } from "../device.js";
import { ConfigError } from "../errors.js";
import { backbones } from "../models/index.js";
import { CHOICES, DEFAULT_CONFIG, modes, type PartialConfig, resolveConfig } from "../train/config.js";
import { type Command, parseArguments, required, UsageError, wholeNumber } from "./command.js";
import { applySetting, mergeConfig, readConfigFile, type Surroundings } from "./config_file.js";
import { deviceName } from "./device_option.js";
import { Interrupt } from "./interrupt.js";
import { Progress } from "./progress.js";
import { trainOnce, trainSeeds } from "./train_run.js";

export const trainCommand: Command = {
  name: "train",
  summary: "train on a folder of tiles, with or without adaptation",
  help: `Usage: lacuna train [CONFIG] [--data DIR] [--out DIR] [options]

Trains a DeepLabV3+ on the tiles of {source,target}/{train,val}/{images,labels} in DIR. An unfinished run in the output
folder is continued by the same command, with the same bits as if it had never stopped, whatever stopped it. Ctrl-C
finishes the step and saves; typed twice, it stops at once.

  CONFIG            YAML or JSON: any of the entries below and data, out, classes (a list), device and seeds (a list),
                    which stand for the options of these names. Paths, model.pretrained too, are relative to the
                    current folder.
  --data DIR        tiles; labels are class indices of 8 bits, 255 = ignore
  --out DIR         folder of the run
  --mode MODE       ${modes.join(", ")}
  --backbone NAME   ${backbones.join(", ")}
  --width FACTOR    scales every channel count
  --crop PIXELS     side of training crops
  --batch N         crops of each domain in a step
  --steps N
  --seed N
  --seeds A,B,…     a run for each, in OUT/seed-A, OUT/seed-B, …; seeds.json and seeds.md hold mean and deviation
  --classes A,B,…   names in index order, where the folder has no dataset.json
  --device NAME     cuda, webgpu, cpu or reference (default: the first that opens)
  --workers N       threads that decode tiles and cut crops (default: half the cores, 4 at most); 0: none but the main one
  --set KEY=VALUE   any entry, such as optim.lr=0.005; may be repeated
Precedence: --set, then the other options, then CONFIG, then the defaults.

The output folder holds
  config.yaml               every entry, the defaults too, and the command; a CONFIG itself
  checkpoint.safetensors    the last state, from which the run continues
  best.safetensors          the model that did best by \`select\` (needs evaluateEvery)
  metrics.jsonl             a line for every step, evaluation and warning
  events.out.tfevents.*     the same for TensorBoard (tensorboard --logdir OUT)
  report.html, report.json  scores, curves and samples, in the end
  run.lock                  while a process trains here

Entries that take one of a few values:
${Object.entries(CHOICES)
  .map(([path, values]) => `  ${path.padEnd(20)} ${values.join(", ")}`)
  .join("\n")}

Entries and their defaults:
${indent(JSON.stringify(DEFAULT_CONFIG, null, 2))}`,
  async run(args, terminal) {
    const { values: options, positionals } = parseArguments("train", args, {
      data: { type: "string" },
      out: { type: "string" },
      mode: { type: "string" },
      backbone: { type: "string" },
      width: { type: "string" },
      crop: { type: "string" },
      batch: { type: "string" },
      steps: { type: "string" },
      seed: { type: "string" },
      seeds: { type: "string" },
      classes: { type: "string" },
      device: { type: "string" },
      workers: { type: "string", default: String(Math.min(4, Math.floor(availableParallelism() / 2))) },
      set: { type: "string", multiple: true, default: [] },
    });
    const [file, ...more] = positionals;
    if (more.length > 0) throw new UsageError(`one configuration is enough, not also ${more.join(", ")}`);
    const read = file === undefined ? { config: {}, surroundings: {} } : await readConfigFile(file);
    let partial = mergeConfig(read.config, fromFlags(options));
    for (const setting of options.set) partial = applySetting(partial, setting);
    const around: Surroundings = { ...read.surroundings, ...aroundFromFlags(options) };
    const data = required("train", "data", around.data);
    const out = required("train", "out", around.out);
    const { pretrained } = partial.model ?? {};
    // What config.yaml and checkpoints say of it holds from every folder.
    if (pretrained) partial = mergeConfig(partial, { model: { pretrained: resolve(pretrained) } });
    const config = resolveConfig(partial);
    const { seeds } = around;
    if (seeds) for (const seed of seeds) resolveConfig({ ...partial, seed });
    if (seeds && (seeds.length === 0 || new Set(seeds).size !== seeds.length)) {
      throw new ConfigError("seeds", "must list one seed or more, each once");
    }
    const { classes } = around;
    const dataset = await FolderDataset.open(data, classes === undefined ? {} : { classes });
    using device: Device = await open(deviceName(around.device));
    const progress = new Progress(terminal);
    using interrupt = new Interrupt((signal) =>
      progress.say(`${signal}: finishing the step and saving; again to stop at once`),
    );
    progress.say(`${device.description}; ${dataset.name}: ${dataset.classes.join(", ")}`);
    if (config.select === "oracle" && config.evaluateEvery > 0) {
      progress.say(
        "select: oracle uses the labels of target/val: the best model is no result of unsupervised adaptation",
      );
    }
    const { device: name } = around;
    const surroundings = {
      data: resolve(data),
      ...(classes && { classes }),
      ...(name !== undefined && { device: name }),
    };
    const command = `lacuna train ${args.map(quoted).join(" ")}`;
    const workers = wholeNumber("workers", options.workers, 0, 256);
    const runs = { device, dataset, workers, progress, interrupt, surroundings, command };
    return seeds ? await trainSeeds(runs, config, out, seeds) : await trainOnce(runs, config, out);
  },
};

/** As a shell takes it. */
const quoted = (arg: string): string => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", `'\\''`)}'`);

/** What options say that is no entry of the configuration. */
function aroundFromFlags(options: Readonly<Record<string, unknown>>): Surroundings {
  const { data, out, classes, device, seeds } = options as Readonly<Record<string, string | undefined>>;
  return {
    ...(data !== undefined && { data }),
    ...(out !== undefined && { out }),
    ...(classes !== undefined && { classes: classes.split(",") }),
    ...(device !== undefined && { device }),
    ...(seeds !== undefined && { seeds: seeds.split(",").map((seed) => wholeNumber("seeds", seed, 0, 2 ** 32 - 1)) }),
  };
}

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
