import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { arch, cpus, release, totalmem, type } from "node:os";
import { fileURLToPath } from "node:url";
import type { Environment } from "../train/run_report.js";

/** Folder of the package that this file runs from. */
const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));

/** What a run's report says of where it was computed. */
export function environment(): Environment {
  const processors = cpus();
  return {
    lacuna: versionOf(),
    commit: commitOf(),
    node: process.version,
    system: `${type()} ${release()}, ${arch()}`,
    processor: `${processors[0]?.model.trim() ?? "unknown"}, ${processors.length} threads`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
  };
}

function versionOf(): string {
  const { version } = JSON.parse(readFileSync(`${PACKAGE}/package.json`, "utf8")) as { version: string };
  return version;
}

/**
 * Commit of the checkout that this file runs from, with "and changes" where tracked files differ from it; null outside of
 * one: a package installed into somebody's repository is not at that repository's commit.
 */
export function commitOf(): string | null {
  const git = (...args: string[]) =>
    execFileSync("git", args, { cwd: PACKAGE, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    if (realpathSync(git("rev-parse", "--show-toplevel")) !== realpathSync(PACKAGE)) return null;
    const commit = git("rev-parse", "HEAD");
    return git("status", "--porcelain", "--untracked-files=no") === "" ? commit : `${commit} and changes`;
  } catch {
    return null; // no git, or no commit yet
  }
}
