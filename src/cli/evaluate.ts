import { join } from "node:path";
import { FolderDataset } from "../data/folder.js";
import { open } from "../device.js";
import { DataError } from "../errors.js";
import { CHECKPOINT, loadTrained } from "../train/checkpoint.js";
import { countsOf, scoreLines } from "../train/scores.js";
import { evaluateDomains } from "../train/train.js";
import { type Command, parseOptions, required } from "./command.js";
import { deviceName } from "./device_option.js";

export const evaluateCommand: Command = {
  name: "eval",
  summary: "score a trained model on the val splits of a folder",
  help: `Usage: lacuna eval --run DIR --data DIR [--device NAME] [--json]

  --run DIR       output folder of lacuna train
  --data DIR      tiles as for lacuna train; source/val and target/val, or one of them
  --device NAME   webgpu or reference (default: the first that opens)
  --json          scores and confusion matrices as one JSON object`,
  async run(args, terminal) {
    const options = parseOptions("eval", args, {
      run: { type: "string" },
      data: { type: "string" },
      device: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const file = join(required("eval", "run", options.run), CHECKPOINT);
    const root = required("eval", "data", options.data);
    using device = await open(deviceName(options.device));
    using trained = await loadTrained(file, device);
    const { classes, ignoreIndex, statistics } = trained.run;
    const dataset = await FolderDataset.open(root, { classes, ignoreIndex });
    const confusions = await evaluateDomains(trained.model, dataset, statistics);
    const found = (["source", "target"] as const).flatMap((domain) => {
      const confusion = confusions[domain];
      return confusion ? [{ domain, confusion }] : [];
    });
    if (found.length === 0) throw new DataError(root, "holds neither source/val nor target/val");
    if (options.json) {
      const entries = found.map(({ domain, confusion }) => [
        domain,
        { ...confusion.scores(), confusion: countsOf(confusion) },
      ]);
      terminal.stdout.write(`${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`);
    } else {
      for (const { domain, confusion } of found)
        terminal.stdout.write(`${scoreLines(`${domain}/val`, classes, confusion).join("\n")}\n`);
    }
    return 0;
  },
};
