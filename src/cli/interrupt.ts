/** Turns the first SIGINT or SIGTERM into an abort, so that work in progress is finished and saved; a second one ends the process at once. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #listeners: [NodeJS.Signals, () => void][];
  #code: number | null = null;

  constructor(onFirst: (signal: NodeJS.Signals) => void) {
    const codes = [
      ["SIGINT", 130],
      ["SIGTERM", 143],
    ] as const;
    this.#listeners = codes.map(([signal, code]) => [
      signal,
      () => {
        if (this.#code !== null) process.exit(code);
        this.#code = code;
        onFirst(signal);
        this.#controller.abort();
      },
    ]);
    for (const [signal, listener] of this.#listeners) process.on(signal, listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What to exit with; null where no signal came. */
  get code(): number | null {
    return this.#code;
  }

  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener);
  }
}
