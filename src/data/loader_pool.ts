import { Worker } from "node:worker_threads";
import { DataError } from "../errors.js";
import type { Domain } from "./dataset.js";
import type { SampleMaker } from "./loader.js";
import type { DatasetOrigin } from "./origin.js";
import type { Sample, SampleOptions } from "./sample.js";
import type { Choice } from "./sampling.js";

/** What a thread needs to make the crops of one loader. Plain data. */
export interface LoaderPlan {
  readonly domain: Domain;
  readonly options: SampleOptions;
  /** Of the loader's generator. */
  readonly seed: number;
}

/** What a thread is started with. */
export interface WorkerPlan {
  readonly origin: DatasetOrigin;
  readonly loaders: readonly LoaderPlan[];
  /** Of decoded tiles, that this thread may keep. */
  readonly cacheMegabytes: number;
}

export interface SampleRequest extends Choice {
  readonly id: number;
  /** Index into `loaders`. */
  readonly loader: number;
  readonly n: number;
}
export type SampleAnswer =
  | { readonly id: number; readonly sample: Sample }
  | { readonly id: number; readonly error: { readonly file: string; readonly reason: string } };

interface Pending {
  readonly tile: number;
  readonly worker: number;
  resolve(sample: Sample): void;
  reject(error: Error): void;
}

/** Decoded tiles in memory, all threads together. */
const CACHE_MEGABYTES = 512;

/**
 * Threads that decode tiles and cut crops. A tile always goes to the same thread, so that it is decoded and kept once. What comes out
 * does not depend on their number, as every crop's chance is its own.
 */
export class LoaderPool implements Disposable {
  readonly #workers: Worker[];
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #failed: Error | null = null;

  /** @param workers Threads, 1 or more. */
  constructor(origin: DatasetOrigin, loaders: readonly LoaderPlan[], workers: number) {
    const plan: WorkerPlan = { origin, loaders, cacheMegabytes: Math.floor(CACHE_MEGABYTES / workers) };
    // Beside this file, of the same kind: tests run the sources.
    const file = new URL(
      import.meta.url.endsWith(".ts") ? "./loader_worker.ts" : "./loader_worker.js",
      import.meta.url,
    );
    this.#workers = Array.from({ length: workers }, (_, index) => {
      const worker = new Worker(file, { workerData: plan });
      worker.on("message", (answer: SampleAnswer) => this.#settle(answer));
      worker.on("error", (error) => this.#fail(index, error.message));
      worker.on("exit", (code) => this.#fail(index, `it ended with ${code}`));
      worker.unref(); // a thread that waits keeps no process alive
      return worker;
    });
  }

  /** The maker for loader number `loader` of those that the pool was made for. */
  maker(loader: number): SampleMaker {
    return { make: (n, choice) => this.#request(loader, n, choice) };
  }

  #request(loader: number, n: number, choice: Choice): Promise<Sample> {
    if (this.#failed) return Promise.reject(this.#failed);
    const id = this.#next++;
    const worker = choice.tile % this.#workers.length;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { tile: choice.tile, worker, resolve, reject });
      this.#workers[worker]!.ref(); // somebody waits for it
      this.#workers[worker]!.postMessage({ ...choice, id, loader, n } satisfies SampleRequest);
    });
  }

  #settle(answer: SampleAnswer): void {
    const pending = this.#pending.get(answer.id);
    if (!pending) return;
    this.#pending.delete(answer.id);
    if (![...this.#pending.values()].some(({ worker }) => worker === pending.worker))
      this.#workers[pending.worker]!.unref();
    if ("sample" in answer) pending.resolve(answer.sample);
    else pending.reject(new DataError(answer.error.file, answer.error.reason));
  }

  /** A thread died: whatever it had is lost, and nothing more will come. */
  #fail(index: number, why: string): void {
    const lost = [...this.#pending.values()].filter(({ worker }) => worker === index).map(({ tile }) => tile);
    this.#failed ??= new DataError("loader", `the thread that reads tiles ${lost.join(", ") || "…"} died: ${why}`);
    for (const [id, pending] of this.#pending) {
      this.#pending.delete(id);
      pending.reject(this.#failed);
    }
  }

  /** Ends all threads; what they were making is lost. */
  dispose(): void {
    for (const worker of this.#workers) {
      worker.removeAllListeners();
      void worker.terminate();
    }
    this.#failed ??= new DataError("loader", "was closed");
    for (const { reject } of this.#pending.values()) reject(this.#failed);
    this.#pending.clear();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
