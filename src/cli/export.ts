import { join } from "node:path";
import { writeAtomic } from "../checkpoint/index.js";
import { tileFullScale } from "../data/dataset.js";
import { open } from "../device.js";
import { DeviceError } from "../errors.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { exportOnnx } from "../models/onnx.js";
import { Generator } from "../random.js";
import { scope, Tensor } from "../tensor.js";
import { BEST, CHECKPOINT, loadTrained } from "../train/checkpoint.js";
import { type Command, parseOptions, required, UsageError } from "./command.js";
import { deviceName } from "./device_option.js";
import { EXIT } from "./exit_code.js";

/** Largest difference of logits that --check accepts, relative to the largest logit where that is above 1. */
const TOLERANCE = 1e-4;

export const exportCommand: Command = {
  name: "export",
  summary: "write a trained model as ONNX",
  help: `Usage: lacuna export --run DIR -o MODEL.onnx [options]

Writes the model of a run for onnxruntime and other readers of ONNX (operator set 17). Input "image" is [batch, bands,
height, width] in the tiles' own units (0 … 255 for 8 bits): normalisation is part of the graph. Output "logits" is
[batch, classes, height, width]. Sizes are free. Classes, bands and statistics are in the file's metadata.

  --run DIR            output folder of lacuna train
  -o, --output FILE    the file to write
  --checkpoint NAME    last (default) or best
  --domain NAME        whose channel statistics are baked in: source or target (default)
  --check              also run it in onnxruntime-node, if that is installed, and compare the logits of two sizes
  --device NAME        cuda, webgpu, cpu or reference (default: the first that opens)`,
  async run(args, terminal) {
    const options = parseOptions("export", args, {
      run: { type: "string" },
      output: { type: "string", short: "o" },
      checkpoint: { type: "string", default: "last" },
      domain: { type: "string", default: "target" },
      check: { type: "boolean", default: false },
      device: { type: "string" },
    });
    const folder = required("export", "run", options.run);
    const out = required("export", "output", options.output);
    const { domain, checkpoint } = options;
    if (domain !== "source" && domain !== "target") {
      throw new UsageError(`--domain must be source or target, not "${domain}"`);
    }
    if (checkpoint !== "last" && checkpoint !== "best") {
      throw new UsageError(`--checkpoint must be last or best, not "${checkpoint}"`);
    }
    using device = await open(deviceName(options.device));
    using trained = await loadTrained(join(folder, checkpoint === "best" ? BEST : CHECKPOINT), device);
    const { model, run } = trained;
    const scale = tileFullScale(run.type);
    const { mean, std } = run.statistics[domain];
    const normalise = { mean: mean.map((m) => m * scale), std: std.map((s) => s * scale) };
    const metadata = new Map([
      ["class_names", run.classes.join(",")],
      ["sample_type", run.type],
      ["domain", domain],
      ["step", String(run.step)],
    ]);
    await writeAtomic(out, await exportOnnx(model, { normalise, metadata }));
    terminal.stdout.write(
      `${out}: ${run.classes.length} classes, ${run.bands} bands of ${run.type}, statistics of the ${domain}\n`,
    );
    if (!options.check) return 0;
    const worst = await compare(model, out, run.bands, scale, normalise);
    terminal.stdout.write(
      `onnxruntime: logits differ by ${worst.toExponential(1)} at most (${TOLERANCE} is allowed)\n`,
    );
    return worst <= TOLERANCE ? 0 : EXIT.bug;
  },
};

/** The little that is used of the package, which is no dependency of ours. */
interface Runtime {
  readonly InferenceSession: {
    create(file: string): Promise<{ run(feeds: object): Promise<Record<string, { readonly data: Float32Array }>> }>;
  };
  readonly Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => object;
}

/** Largest difference of logits between the file in onnxruntime and the model here, over two sizes. */
async function compare(
  model: DeepLabV3Plus,
  file: string,
  bands: number,
  scale: number,
  { mean, std }: { readonly mean: readonly number[]; readonly std: readonly number[] },
): Promise<number> {
  const name = "onnxruntime-node";
  const runtime = (await import(name).catch((cause: unknown) => {
    throw new DeviceError(
      "export --check",
      "unavailable",
      `needs the package ${name}: npm install ${name}`,
      {},
      { cause },
    );
  })) as Runtime;
  const session = await runtime.InferenceSession.create(file);
  const device = [...model.parameters().values()][0]!.device;
  let worst = 0;
  for (const [height, width] of [
    [128, 128],
    [96, 160],
  ] as const) {
    const pixels = height * width;
    const raw = Float32Array.from(new Generator(1).uniform(pixels * bands), (u) => Math.floor(u * scale)); // [h, w, bands]
    const planes = Float32Array.from(raw, (_, i) => raw[(i % pixels) * bands + Math.floor(i / pixels)]!);
    const normal = raw.map((value, i) => (value - mean[i % bands]!) / std[i % bands]!);
    const { logits } = await session.run({ image: new runtime.Tensor("float32", planes, [1, bands, height, width]) });
    const ours = scope(() => model.forward(Tensor.from(device, normal, [1, height, width, bands])));
    const own = await ours.data();
    ours.dispose();
    const classes = own.length / pixels;
    let [largest, difference] = [1, 0];
    for (let p = 0; p < pixels; p++) {
      for (let c = 0; c < classes; c++) {
        const value = own[p * classes + c]!;
        largest = Math.max(largest, Math.abs(value));
        difference = Math.max(difference, Math.abs(value - logits!.data[c * pixels + p]!));
      }
    }
    worst = Math.max(worst, difference / largest);
  }
  return worst;
}
