import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { EvaluationRecord } from "./history.js";
import { RunLock } from "./run_lock.js";
import type { StepRecord } from "./session.js";
import { EventFile, type Scalars } from "./tensorboard.js";
import type { Warning } from "./warnings.js";

/** Name of a run's record of every step, in its folder. */
export const METRICS = "metrics.jsonl";

/** A line of metrics.jsonl. */
export type MetricsLine =
  | ({ readonly kind: "step" } & StepRecord)
  | ({ readonly kind: "evaluation" } & EvaluationRecord)
  | ({ readonly kind: "warning" } & Warning);

/**
 * The folder of a run while it is trained: nobody else trains in it; every step is a line of metrics.jsonl and an entry of
 * a TensorBoard event file before the next one begins.
 */
export class RunFolder {
  #metrics: number | null = null;
  #events: EventFile | null = null;
  /** The first step that this process takes. */
  #first = 1;

  private constructor(
    readonly path: string,
    private readonly lock: RunLock,
  ) {}

  /**
   * Makes the folder where there is none, and takes it.
   * @throws CheckpointError where another process trains in it; the system's errors.
   */
  static async open(path: string): Promise<RunFolder> {
    await mkdir(path, { recursive: true });
    const lock = await RunLock.take(path);
    return new RunFolder(path, lock);
  }

  /**
   * Begins or goes on after step `step`: what was written of later ones is taken out, for they are taken again.
   * @throws the system's errors.
   */
  async begin(step: number): Promise<void> {
    // Half files of a process that was killed while it saved.
    for (const name of await readdir(this.path)) {
      if (/^\.lacuna-\d+-\d+\.tmp$/.test(name)) await rm(join(this.path, name), { force: true });
    }
    await this.lock.tidy();
    this.#first = step + 1;
    this.#metrics = openSync(join(this.path, METRICS), "a+");
    ftruncateSync(this.#metrics, lengthUpTo(this.#metrics, step));
  }

  step(record: StepRecord): void {
    this.#write({ kind: "step", ...record });
    const { losses, weights, discriminatorAccuracy: accuracy, gradientNorms: norms } = record;
    this.#show(record.step, {
      ...tagged("loss", { ...losses, total: record.total }),
      ...tagged("weight", weights),
      lr: record.lr,
      ...(accuracy && { lambda: record.lambda, ...tagged("discriminator", { ...accuracy }) }),
      ...tagged("norm", { ...norms, ...(record.gradientNorm !== null && { all: record.gradientNorm }) }),
      "speed/images_per_second": record.images / record.secondsPerStep,
    });
  }

  evaluation(record: EvaluationRecord): void {
    this.#write({ kind: "evaluation", ...record });
    const { sourceMeanIoU: source, targetMeanIoU: target } = record;
    this.#show(record.step, {
      ...tagged("mean_iou", { ...(source !== null && { source }), ...(target !== null && { target }) }),
      ...tagged("validator", { ...record.validators }),
    });
  }

  warning(warning: Warning): void {
    this.#write({ kind: "warning", ...warning });
  }

  /** Makes all that was written last: a checkpoint must not be ahead of it. */
  sync(): void {
    if (this.#metrics !== null) fsyncSync(this.#metrics);
    this.#events?.sync();
  }

  async close(): Promise<void> {
    if (this.#metrics !== null) closeSync(this.#metrics);
    this.#events?.close();
    this.#metrics = null;
    this.#events = null;
    await this.lock.release();
  }

  #write(line: MetricsLine): void {
    if (this.#metrics === null) return;
    const bytes = new TextEncoder().encode(`${JSON.stringify(line)}\n`);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#metrics, bytes, at);
  }

  /** The event file is made when there is something to show: a finished run gets no other. */
  #show(step: number, scalars: Scalars): void {
    this.#events ??= new EventFile(this.path, this.#first);
    this.#events.scalars(step, scalars);
  }
}

const tagged = (group: string, values: Readonly<Partial<Record<string, number>>>): Scalars =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`${group}/${name}`, value ?? Number.NaN]));

/** Bytes of the whole lines at the start of a file that are of steps up to `step`. Steps never fall from line to line. */
function lengthUpTo(file: number, step: number): number {
  const chunk = Buffer.alloc(1 << 20);
  let kept = 0;
  let rest = "";
  for (let at = 0; ; ) {
    const read = readSync(file, chunk, 0, chunk.length, at);
    if (read === 0) return kept;
    at += read;
    const lines = (rest + chunk.toString("latin1", 0, read)).split("\n"); // a character a byte
    rest = lines.pop()!;
    for (const line of lines) {
      const found = /"step":(\d+)/.exec(line);
      if (!found || Number(found[1]) > step) return kept;
      kept += line.length + 1;
    }
  }
}
