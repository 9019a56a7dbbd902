import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { BEST, CHECKPOINT } from "../train/checkpoint.js";

/** Which of a run's checkpoints: the last state, or the model that did best in evaluations during training. */
export const checkpointFiles = { last: CHECKPOINT, best: BEST } as const;
export type CheckpointName = keyof typeof checkpointFiles;

/**
 * The folders of runs that `folder` stands for: itself, or, where it holds no checkpoint but folders `seed-N` do, these
 * by number (`lacuna train --seeds`).
 */
export async function runFolders(folder: string): Promise<string[]> {
  if (await exists(join(folder, CHECKPOINT))) return [folder];
  const entries = await readdir(folder).catch(() => []); // what is wrong with it is said when its checkpoint is read
  const seeds = entries
    .filter((name) => /^seed-\d+$/.test(name))
    .sort((a, b) => Number(a.slice("seed-".length)) - Number(b.slice("seed-".length)));
  return seeds.length > 0 ? seeds.map((name) => join(folder, name)) : [folder];
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
