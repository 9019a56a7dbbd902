import { runCommandLine } from "../../src/cli/run.js";

/**
 * Runs a command line in this process; its output as two texts. `onOutput` is called after every write, `onWindows` with the
 * count of a progress line, which only a terminal gets.
 */
export async function lacuna(
  args: readonly string[],
  onOutput: (text: string) => void = () => {},
  onWindows?: (windows: number) => void,
) {
  const out = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof out) => ({
    isTTY: onWindows !== undefined,
    write: (text: string) => {
      out[name] += text;
      onOutput(text);
      const windows = / (\d+)\/\d+ windows/.exec(text)?.[1];
      if (windows !== undefined) onWindows?.(Number(windows));
      return true;
    },
  });
  // A terminal is more than what commands use of it.
  const terminal = {
    stdout: stream("stdout"),
    stderr: stream("stderr"),
    env: { TERM: "dumb" },
  } as unknown as Parameters<typeof runCommandLine>[1];
  return { code: await runCommandLine(args, terminal), ...out };
}
