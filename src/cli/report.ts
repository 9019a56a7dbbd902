import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { writeAtomic } from "../checkpoint/index.js";
import { FolderDataset } from "../data/folder.js";
import { open } from "../device.js";
import { CHECKPOINT, loadTrained } from "../train/checkpoint.js";
import { type RunReport, writeRunReport } from "../train/run_report.js";
import { type Command, parseOptions, required } from "./command.js";
import { deviceName } from "./device_option.js";
import { Interrupt } from "./interrupt.js";
import { runFolders } from "./run_folders.js";

export const reportCommand: Command = {
  name: "report",
  summary: "write the report of a run again, finished or not, without training",
  help: `Usage: lacuna report --run DIR --data DIR [--device NAME]

Evaluates the last checkpoint on source/val and target/val and writes report.html and report.json into the run's folder:
scores, bars by class, the worst, median and best tiles, curves, confusion matrices, and how the run came about. What an
earlier report.json says of the training (command, machine, device) stays.

  --run DIR       output folder of lacuna train, or one that holds folders seed-0, seed-1, …
  --data DIR      tiles as for lacuna train
  --device NAME   cuda, webgpu, cpu or reference (default: the first that opens)`,
  async run(args, terminal) {
    const options = parseOptions("report", args, {
      run: { type: "string" },
      data: { type: "string" },
      device: { type: "string" },
    });
    const folders = await runFolders(required("report", "run", options.run));
    const root = required("report", "data", options.data);
    using device = await open(deviceName(options.device));
    using interrupt = new Interrupt((signal) => terminal.stderr.write(`${signal}: stopping after this batch\n`));
    for (const folder of folders) {
      using trained = await loadTrained(join(folder, CHECKPOINT), device);
      const { model, run } = trained;
      const { classes, ignoreIndex } = run;
      const dataset = await FolderDataset.open(root, { classes, ignoreIndex });
      const before = await readBefore(join(folder, "report.json"));
      let report: Awaited<ReturnType<typeof writeRunReport>>;
      try {
        report = await writeRunReport({ ...run, model }, dataset, device, {
          signal: interrupt.signal,
          command: before?.command ?? null,
          environment: before?.environment ?? null,
          trainedOn: before?.device ?? "a device that was not recorded",
        });
      } catch (error) {
        if (interrupt.code !== null) return interrupt.code;
        throw error;
      }
      await writeAtomic(join(folder, "report.html"), report.html);
      await writeAtomic(join(folder, "report.json"), `${JSON.stringify(report.json, null, 2)}\n`);
      for (const line of report.summary) terminal.stdout.write(`${line}\n`);
      terminal.stdout.write(`report: ${join(folder, "report.html")}\n`);
    }
    return interrupt.code ?? 0;
  },
};

/** What a report remembers of the training that the checkpoint does not. */
const schema = v.object({
  device: v.string(),
  command: v.optional(v.nullable(v.string()), null),
  environment: v.optional(
    v.nullable(
      v.object({
        lacuna: v.string(),
        commit: v.nullable(v.string()),
        node: v.string(),
        system: v.string(),
        processor: v.string(),
        memory: v.string(),
      }),
    ),
    null,
  ),
});

/** Null where there is no earlier report, or none that can be read: it is about to be replaced. */
async function readBefore(file: string): Promise<Pick<RunReport, "device" | "command" | "environment"> | null> {
  try {
    const { success, output } = v.safeParse(schema, JSON.parse(await readFile(file, "utf8")));
    return success ? output : null;
  } catch {
    return null;
  }
}
