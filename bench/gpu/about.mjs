// Where and when figures were made: the card, its driver, CUDA, the commit.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** The first line of what a command says; empty where there is no such command, or it fails. */
function said(/** @type {string} */ command, /** @type {string[]} */ ...args) {
  try {
    return execFileSync(command, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

/** Of the git checkout, or what `npm run gpu:pack` wrote down. */
function commit() {
  try {
    return readFileSync(`${root}/commit`, "utf8").trim();
  } catch {
    return said("git", "rev-parse", "HEAD") + (said("git", "status", "--porcelain") ? " and changes" : "");
  }
}

export function about() {
  const asked = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit,compute_cap";
  const [gpu, driver, memory, smClock, memoryClock, power, capability] = said(
    "nvidia-smi",
    `--query-gpu=${asked}`,
    "--format=csv,noheader",
  )
    .split("\n")[0]
    .split(", ");
  const cuda = /release (\S+),/.exec(said("nvcc", "--version"))?.[1];
  return {
    date: new Date().toISOString(),
    gpu: gpu || "none",
    driver,
    cuda,
    capability,
    memory,
    clocks: { sm: smClock, memory: memoryClock },
    power,
    node: process.version,
    commit: commit(),
  };
}
