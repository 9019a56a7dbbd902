import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../checkpoint/index.js";
import { type Device, open } from "../device.js";
import { runDemo } from "../train/demo.js";
import { DEMO, DEMO_ON_REFERENCE } from "../train/demo_recipe.js";
import { textTable } from "../train/tables.js";
import { type Command, parseOptions, type Terminal, wholeNumber } from "./command.js";
import { deviceName } from "./device_option.js";
import { commitOf } from "./environment.js";
import { Interrupt } from "./interrupt.js";
import { formatTime, Progress } from "./progress.js";
import { ensureVulkan } from "./setup_vulkan.js";

export const demoCommand: Command = {
  name: "demo",
  summary: "adapt to another city, on the built-in procedural data set",
  help: `Usage: lacuna demo [--seeds N] [--steps N] [--out DIR] [--device NAME]

Trains on the labels of one procedural city, with and without adaptation to a second one, and compares both there.

  --seeds N       repeat with seeds 0 … N - 1 (default 1)
  --steps N       of each training
  --out DIR       report.html and report.json (default runs/demo)
  --device NAME   webgpu, cpu or reference (default: a GPU, else the CPU device, else WebGPU on software Vulkan, which
                  is set up where it can be)`,
  async run(args, terminal) {
    const options = parseOptions("demo", args, {
      seeds: { type: "string", default: "1" },
      steps: { type: "string" },
      out: { type: "string", default: "runs/demo" },
      device: { type: "string" },
    });
    const count = wholeNumber("seeds", options.seeds, 1, 1000);
    const steps = options.steps === undefined ? null : wholeNumber("steps", options.steps, 1, 1e9);
    const progress = new Progress(terminal);
    using device = await openDevice(options.device, terminal, progress);
    using interrupt = new Interrupt((signal) =>
      progress.say(`${signal}: stopping after this step; again to stop at once`),
    );
    const base = device.name === "reference" ? DEMO_ON_REFERENCE : DEMO;
    const recipe = steps === null ? base : { ...base, steps };
    progress.say(`${device.description}`);
    const outcome = await runDemo({
      device,
      recipe,
      seeds: [...Array(count).keys()],
      commit: commitOf(),
      signal: interrupt.signal,
      onRun: () => progress.restart(),
      onStep: (name, record, total) => progress.step(name, record, total),
    });
    progress.end();
    if (interrupt.code !== null || !outcome) return interrupt.code ?? 0;
    const { html, json, table } = outcome;
    await mkdir(options.out, { recursive: true });
    await writeAtomic(join(options.out, "report.html"), html);
    await writeAtomic(join(options.out, "report.json"), `${JSON.stringify(json, null, 2)}\n`);
    progress.say(`\n${textTable(table)}`);
    if (base === DEMO_ON_REFERENCE) {
      progress.say(`${recipe.steps} steps on the reference backend show that everything works, not how well.`);
    }
    progress.say(`${formatTime(json.seconds)} in all; report: ${join(options.out, "report.html")}`);
    return 0;
  },
};

/** What `open` takes where that is a GPU or the CPU device; else WebGPU, set up where it can be; else the reference. */
async function openDevice(option: string | undefined, terminal: Terminal, progress: Progress): Promise<Device> {
  const asked = deviceName(option ?? terminal.env.LACUNA_DEVICE);
  if (asked && asked !== "webgpu") return open(asked);
  if (!asked) {
    const device = await open();
    if (device.name !== "reference") return device;
    device.dispose();
  }
  if (await ensureVulkan((line) => progress.say(line))) return open("webgpu");
  return open(asked ?? "reference"); // asked for WebGPU: the error says why there is none
}
