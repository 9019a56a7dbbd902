import { execFileSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";

/** Where and when figures were taken. */
export interface Machine {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  /** Of the last minute, in runnable threads; 0 on Windows. */
  readonly load: number;
  readonly node: string;
  /** Of the checkout that this file runs from, "and changes" where there are any; empty outside of one. */
  readonly commit: string;
}

export const machine = (): Machine => ({
  date: new Date().toISOString(),
  cpu: cpus()[0]?.model ?? "",
  cores: cpus().length,
  load: loadavg()[0]!,
  node: process.version,
  commit: git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain") ? " and changes" : ""),
});

function git(...args: string[]): string {
  try {
    const cwd = fileURLToPath(new URL("../../..", import.meta.url));
    return execFileSync("git", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}
