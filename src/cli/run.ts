import { benchCommand } from "./bench.js";
import { type Command, type Terminal, UsageError } from "./command.js";
import { dataCommand } from "./data.js";
import { demoCommand } from "./demo.js";
import { devicesCommand } from "./devices.js";
import { evaluateCommand } from "./evaluate.js";
import { explain } from "./exit_code.js";
import { exportCommand } from "./export.js";
import { predictCommand } from "./predict.js";
import { reportCommand } from "./report.js";
import { setupCommand } from "./setup.js";
import { trainCommand } from "./train.js";

const COMMANDS: readonly Command[] = [
  dataCommand,
  trainCommand,
  evaluateCommand,
  predictCommand,
  exportCommand,
  reportCommand,
  devicesCommand,
  setupCommand,
  demoCommand,
  benchCommand,
];

const HELP = `Usage: lacuna COMMAND [options]

${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`).join("\n")}

lacuna COMMAND --help lists the options of a command.
Exit codes: 0 done, 2 usage, 3 input, 4 checkpoint, 5 device, 6 memory, 7 training diverged, 8 disk, 9 slower
than before (bench), 130 and 143 after SIGINT and SIGTERM, 1 a fault of lacuna.`;

/**
 * Runs one command line and says what went wrong in one line and a hint.
 * @param args without `node` and the script.
 * @returns the exit code.
 */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    const [name, ...rest] = args;
    if (name === undefined || name === "--help" || name === "-h" || name === "help") {
      terminal.stdout.write(`${HELP}\n`);
      return 0;
    }
    const command = COMMANDS.find((c) => c.name === name);
    if (!command) throw new UsageError(`there is no command "${name}"`);
    if (rest.includes("--help") || rest.includes("-h")) {
      terminal.stdout.write(`${command.help}\n`);
      return 0;
    }
    return await command.run(rest, terminal);
  } catch (error) {
    const { code, message, hint } = explain(error);
    terminal.stderr.write(`lacuna: ${message}\n${hint ? `hint: ${hint}\n` : ""}`);
    if (terminal.env.LACUNA_DEBUG && error instanceof Error) terminal.stderr.write(`${error.stack}\n`);
    return code;
  }
}
