#!/usr/bin/env node
import { runCommandLine } from "./run.js";

/** Resolves when everything written so far has left the process, or its reader is gone. */
const flushed = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => {
    stream.once("error", () => resolve());
    stream.write("", () => resolve());
  });

process.stdout.on("error", () => {}); // a closed pipe (lacuna … | head) is no fault
process.stderr.on("error", () => {});
const code = await runCommandLine(process.argv.slice(2), process);
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
process.exit(code); // Dawn keeps a process alive for ever
