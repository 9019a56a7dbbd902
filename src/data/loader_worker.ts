import { parentPort, workerData } from "node:worker_threads";
import { DataError } from "../errors.js";
import { Generator } from "../random.js";
import { cached, type Domain, type TileSource } from "./dataset.js";
import type { SampleAnswer, SampleRequest, WorkerPlan } from "./loader_pool.js";
import { reopen } from "./origin.js";
import { makeSample } from "./sample.js";

// A thread of LoaderPool: makes one crop after the other, as it is asked.
const { origin, loaders, cacheMegabytes } = workerData as WorkerPlan; // what LoaderPool starts it with
const dataset = reopen(origin);
const sources = new Map<Domain, Promise<TileSource>>();
const share = cacheMegabytes / new Set(loaders.map(({ domain }) => domain)).size;

function sourceOf(domain: Domain): Promise<TileSource> {
  const known = sources.get(domain) ?? dataset.then((data) => cached(data.split(domain, "train"), share));
  sources.set(domain, known);
  return known;
}

async function answer({ id, loader, n, tile, shows }: SampleRequest): Promise<void> {
  const { domain, options, seed } = loaders[loader]!;
  try {
    const chance = new Generator(seed).fork(`sample ${n}`);
    const sample = await makeSample(await sourceOf(domain), { tile, shows }, options, chance);
    const buffers = [sample.images.buffer, sample.labels.buffer] as ArrayBuffer[]; // made by makeSample
    parentPort!.postMessage({ id, sample } satisfies SampleAnswer, buffers);
  } catch (error) {
    if (!(error instanceof DataError)) throw error; // ends the thread, which the pool reports
    parentPort!.postMessage({ id, error: { file: error.file, reason: error.reason } } satisfies SampleAnswer);
  }
}

let last = Promise.resolve();
parentPort!.on("message", (request: SampleRequest) => {
  last = last.then(() => answer(request));
});
