import { type Command, parseOptions } from "./command.js";
import { EXIT } from "./exit_code.js";
import { ensureVulkan } from "./setup_vulkan.js";

export const setupCommand: Command = {
  name: "setup",
  summary: "install software Vulkan, where WebGPU finds no driver",
  help: `Usage: lacuna setup

Where WebGPU finds no driver, installs Mesa's software Vulkan with apt-get (as root), or prints the command to type.
Debian 12's own Mesa is too old for Dawn; the one in its backports is taken there.`,
  async run(args, terminal) {
    parseOptions("setup", args, {});
    const ready = await ensureVulkan((line) => terminal.stdout.write(`${line}\n`));
    if (ready) terminal.stdout.write("WebGPU is ready; lacuna devices says on what.\n");
    return ready ? 0 : EXIT.device;
  },
};
