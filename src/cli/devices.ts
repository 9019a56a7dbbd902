import { type DeviceReport, devices } from "../device.js";
import { type Command, parseOptions } from "./command.js";

export const devicesCommand: Command = {
  name: "devices",
  summary: "what this machine can compute on, and why not on the rest",
  help: `Usage: lacuna devices [--json]

Names every backend, the adapter behind it with its limits and features, and why one is not available.

  --json   the same as one JSON array`,
  async run(args, terminal) {
    const { json } = parseOptions("devices", args, { json: { type: "boolean", default: false } });
    const reports = await devices();
    terminal.stdout.write(json ? `${JSON.stringify(reports, null, 2)}\n` : `${reports.map(describe).join("\n")}\n`);
    return 0;
  },
};

function describe({ name, available, description, chosen, software, features, limits }: DeviceReport): string {
  const lines = [`${name.padEnd(10)} ${available ? description : `not available: ${description}`}`];
  const detail = (label: string, text: string) => lines.push(`${"".padEnd(11)}${label.padEnd(10)} ${text}`);
  if (chosen) detail("chosen", `where no device is named, as ${chosen}`);
  if (software) detail("kind", "software: a CPU behind the interface of a GPU");
  if (features) detail("features", features.join(", ") || "none");
  for (const [key, value] of Object.entries(limits ?? {})) detail("limit", `${key} ${value.toLocaleString("en-US")}`);
  return lines.join("\n");
}
