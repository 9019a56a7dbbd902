import type { StepRecord } from "../train/session.js";
import type { Terminal } from "./command.js";

/** Without a terminal a line comes out this often. */
const LINE_MILLISECONDS = 10_000;
/** A terminal is redrawn this often. */
const FRAME_MILLISECONDS = 100;

/** Shows where training is: a bar that redraws itself on a terminal, a line every ten seconds elsewhere. */
export class Progress {
  readonly #terminal: Terminal;
  readonly #live: boolean;
  readonly #colour: boolean;
  #shown = Number.NEGATIVE_INFINITY;
  /** What ends the line that is being redrawn. */
  #pending = "";
  /** Moving average of the time of a step, milliseconds; 0 before the first. */
  #pace = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#live = terminal.stdout.isTTY === true && terminal.env.TERM !== "dumb";
    this.#colour = this.#live && !terminal.env.NO_COLOR;
  }

  /** @param label names the run: `seed 0, adapted`. */
  step(label: string, record: StepRecord, steps: number): void {
    const now = performance.now();
    const took = record.secondsPerStep * 1000;
    this.#pace = this.#pace === 0 ? took : this.#pace + (took - this.#pace) / Math.min(record.step, 20);
    const last = record.step === steps;
    if (now - this.#shown < (this.#live ? FRAME_MILLISECONDS : LINE_MILLISECONDS) && !last) return;
    this.#shown = now;
    const text = describe(record, ((steps - record.step) * this.#pace) / 1000, (1000 * record.images) / this.#pace);
    if (!this.#live) {
      this.#terminal.stdout.write(`${label}  ${record.step}/${steps}  ${text}\n`);
      return;
    }
    const width = this.#terminal.stdout.columns ?? 80;
    const filled = Math.round((16 * record.step) / steps);
    const bar = "█".repeat(filled) + "░".repeat(16 - filled);
    const line = `${label} ${bar} ${record.step}/${steps} ${text}`.slice(0, width - 1);
    const shown = this.#colour ? line.replace(bar, `\u001b[36m${bar}\u001b[39m`) : line;
    this.#terminal.stdout.write(`\r\u001b[2K${shown}`);
    this.#pending = "\n";
    if (last) this.end();
  }

  /** A line of its own, above whatever is being drawn. */
  say(line: string): void {
    this.end();
    this.#terminal.stdout.write(`${line}\n`);
  }

  /** Leaves the bar where it is. */
  end(): void {
    if (this.#pending !== "") this.#terminal.stdout.write(this.#pending);
    this.#pending = "";
  }

  /** A new run: its pace is not the last one's. */
  restart(): void {
    this.end();
    this.#pace = 0;
    this.#shown = Number.NEGATIVE_INFINITY;
  }
}

const SHORT = { crossEntropy: "ce", tversky: "tversky", domain: "domain", selfTraining: "self" } as const;

/**
 * `2:10 left  41 images/s  ce 0.812×0.61 tversky 0.55×0.70 domain 0.69×0.50  λ 0.46  D 71/66 %  ∇ task 0.12 reversed 0.034`;
 * what is left first: a narrow terminal cuts the end.
 */
function describe(record: StepRecord, secondsLeft: number, imagesPerSecond: number): string {
  const losses = (Object.keys(record.losses) as (keyof typeof SHORT)[]).map((name) => {
    return `${SHORT[name]} ${record.losses[name]!.toFixed(3)}×${(record.weights[name] ?? 1).toFixed(2)}`;
  });
  const { discriminatorAccuracy: accuracy, gradientNorms: norms } = record;
  const percent = (share: number) => Math.round(100 * share);
  const speed = imagesPerSecond >= 10 ? imagesPerSecond.toFixed(0) : imagesPerSecond.toPrecision(2);
  const parts = [
    `${formatTime(secondsLeft)} left`,
    `${speed} images/s`,
    losses.join(" "),
    ...(accuracy
      ? [`λ ${record.lambda.toFixed(2)}`, `D ${percent(accuracy.source)}/${percent(accuracy.target)} %`]
      : []),
    ...(norms ? [`∇ task ${norms.task.toPrecision(2)} reversed ${norms.reversed.toPrecision(2)}`] : []),
  ];
  return parts.join("  ");
}

/** `0:07`, `12:30`, `1:02:03` */
export function formatTime(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
