import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, mkdir, readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { writeAtomic } from "../checkpoint/index.js";
import { requireImage, tileBands, tileType, withRaster } from "../data/image.js";
import { readTexts } from "../data/png.js";
import type { RasterInfo } from "../data/raster/raster.js";
import { readMetadata } from "../data/raster/tiff/metadata.js";
import { type Device, open } from "../device.js";
import { CheckpointError, DataError } from "../errors.js";
import { foldBatchNorms } from "../nn/index.js";
import { CHECKPOINT, loadTrained, type TrainedModel } from "../train/checkpoint.js";
import { overlayOf } from "../train/overlay.js";
import { mapScene, PROVENANCE } from "../train/scene_map.js";
import { type Command, parseArguments, required, UsageError, wholeNumber } from "./command.js";
import { deviceName } from "./device_option.js";
import { Interrupt } from "./interrupt.js";
import { formatTime } from "./progress.js";

export const predictCommand: Command = {
  name: "predict",
  summary: "write class maps of scenes of any size",
  help: `Usage: lacuna predict SCENE --run DIR -o MAP [options]
       lacuna predict SCENE … --run DIR --out DIR [options]
       lacuna predict --images DIR --run DIR --out DIR [options]

Writes the class of every pixel. Windows overlap and are blended, in memory that does not grow with the scene's height. A
GeoTIFF gets the scene's georeference, class colours and names, and 255 where nothing was measured. Interrupted, the same
command goes on; maps that are done are not made again.

  --run DIR            output folder of lacuna train
  -o, --output FILE    class map of one scene: .tif, or .png for a small one
  --out DIR            of several: STEM.tif for TIFF scenes, STEM.png for PNG and JPEG images
  --images DIR         every PNG, JPEG and TIFF file in DIR
  --shard I/N          of several: every Nth, beginning with the Ith, from 0: --shard $SLURM_ARRAY_TASK_ID/8
  --probabilities      also MAP.probabilities.tif: 8-bit shares of each class, with GDAL's scale for 0 … 1
  --overlay            also MAP.overlay.png: the scene with class colours over it, 2048 pixels a side at most
  --window PIXELS      side of a window, a multiple of 16 (default 512)
  --overlap SHARE      of a window that its neighbour covers, too: 0 to 0.9 (default 0.25)
  --batch N            windows computed together (default 4)
  --domain NAME        whose channel statistics the scenes have: source or target (default)
  --overwrite          replace maps of other models or settings
  --device NAME        cuda, webgpu, cpu or reference (default: the first that opens)`,
  async run(args, terminal) {
    const { values: options, positionals } = parseArguments("predict", args, {
      run: { type: "string" },
      output: { type: "string", short: "o" },
      out: { type: "string" },
      images: { type: "string" },
      shard: { type: "string" },
      probabilities: { type: "boolean", default: false },
      overlay: { type: "boolean", default: false },
      window: { type: "string", default: "512" },
      overlap: { type: "string", default: "0.25" },
      batch: { type: "string", default: "4" },
      domain: { type: "string", default: "target" },
      overwrite: { type: "boolean", default: false },
      device: { type: "string" },
    });
    const file = join(required("predict", "run", options.run), CHECKPOINT);
    const settings = settingsOf(options);
    const scenes = options.images === undefined ? [...positionals] : await listImages(options.images);
    const jobs = jobsOf(scenes, options.output, options.out, options.shard);
    using device = await open(deviceName(options.device));
    using trained = await loadTrained(file, device);
    const model = await hashOf(file);
    using interrupt = new Interrupt((signal) =>
      terminal.stdout.write(`\n${signal}: stopping; the same command goes on from here\n`),
    );
    using _ = foldBatchNorms(trained.model);
    const kept = { done: 0, made: 0 };
    for (const job of jobs) {
      if (interrupt.code !== null) return interrupt.code;
      await mkdir(dirname(job.map), { recursive: true });
      const line = lineFor(job.scene, terminal);
      try {
        const made = await predictOne(trained, job, {
          ...options,
          ...settings,
          device,
          model,
          signal: interrupt.signal,
          line,
        });
        kept[made ? "made" : "done"]++;
      } catch (error) {
        if (interrupt.code !== null && interrupt.signal.aborted && !(error instanceof DataError)) return interrupt.code;
        throw error;
      }
      line(null);
    }
    const already = kept.done > 0 ? `, ${kept.done} already done` : "";
    terminal.stdout.write(`${kept.made} class map${kept.made === 1 ? "" : "s"} written${already}\n`);
    return interrupt.code ?? 0;
  },
};

interface Settings {
  readonly window: number;
  readonly overlap: number;
  readonly batch: number;
  readonly domain: "source" | "target";
}

function settingsOf(options: { window: string; overlap: string; batch: string; domain: string }): Settings {
  const { domain } = options;
  if (domain !== "source" && domain !== "target") {
    throw new UsageError(`--domain must be source or target, not "${domain}"`);
  }
  const window = wholeNumber("window", options.window, 16, 8192);
  if (window % 16 !== 0) throw new UsageError(`--window must be a multiple of 16, not ${window}`);
  const overlap = /^\d?\.?\d+$/.test(options.overlap) ? Number(options.overlap) : Number.NaN;
  if (!(overlap >= 0 && overlap <= 0.9)) {
    throw new UsageError(`--overlap must be a number from 0 to 0.9, not "${options.overlap}"`);
  }
  return { window, overlap, batch: wholeNumber("batch", options.batch, 1, 1024), domain };
}

interface Job {
  readonly scene: string;
  readonly map: string;
}

/** Which scene goes where. @throws UsageError where that is not clear; DataError for two scenes of one map. */
function jobsOf(scenes: readonly string[], output: string | undefined, out: string | undefined, shard?: string): Job[] {
  if (scenes.length === 0) throw new UsageError("there is no scene to predict", "lacuna predict --help shows how");
  if (output !== undefined) {
    if (out !== undefined || scenes.length > 1) throw new UsageError("-o is for one scene; several need --out DIR");
    if (shard !== undefined) throw new UsageError("--shard is for several scenes");
    return [{ scene: scenes[0]!, map: output }];
  }
  const folder = required("predict", "out", out);
  const maps = new Map<string, string>();
  for (const scene of [...scenes].sort()) {
    const extension = extname(scene);
    const map = join(folder, `${basename(scene, extension)}${/^\.tiff?$/i.test(extension) ? ".tif" : ".png"}`);
    const other = maps.get(map);
    if (other) throw new DataError(scene, `would have the map of ${basename(other)}`);
    maps.set(map, scene);
  }
  const all = [...maps].map(([map, scene]) => ({ scene, map }));
  if (shard === undefined) return all;
  const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(shard) ?? [];
  if (index === undefined || Number(count) < 1 || Number(index) >= Number(count)) {
    throw new UsageError(`--shard takes I/N with I from 0 to N - 1, such as 0/8, not "${shard}"`);
  }
  return all.filter((_, i) => i % Number(count) === Number(index));
}

interface Task extends Settings {
  readonly device: Device;
  /** SHA-256 of the checkpoint. */
  readonly model: string;
  readonly probabilities: boolean;
  readonly overlay: boolean;
  readonly overwrite: boolean;
  readonly signal: AbortSignal;
  readonly line: (text: string | null) => void;
}

/** @returns false where everything was there already. */
async function predictOne(trained: TrainedModel, { scene, map }: Job, task: Task): Promise<boolean> {
  if (resolve(map) === resolve(scene)) throw new UsageError(`${map} would replace the scene itself`);
  const { run } = trained;
  const { window, overlap, batch, domain, model, device, signal } = task;
  const stem = map.slice(0, map.length - extname(map).length);
  const probabilities = task.probabilities ? `${stem}.probabilities.tif` : null;
  const overlay = task.overlay ? `${stem}.overlay.png` : null;
  const { size, mtimeMs } = await stat(scene).catch((cause: unknown) => {
    throw new DataError(scene, "no such file", { cause });
  });
  // The device, too: its rounding decides between classes that are equally likely.
  const made = { scene: basename(scene), size, mtimeMs, model, window, overlap, batch, domain, device: device.name };
  const provenance = JSON.stringify(made);
  const finished = async (file: string) => (await provenanceOf(file)) === provenance;
  const wanted = probabilities === null ? [map] : [map, probabilities];
  let all = true;
  for (const file of wanted) {
    if (await finished(file)) continue;
    all = false;
    if (!task.overwrite && (await exists(file))) {
      throw new DataError(file, "is there already, from another model or other settings: --overwrite replaces it");
    }
  }
  if (!all) {
    await withRaster(scene, async (raster) => {
      requireSame(raster.info, run);
      const started = performance.now();
      await mapScene(trained.model, raster, {
        ...{ window, overlap, batch, signal, provenance, map },
        probabilities,
        statistics: run.statistics[domain],
        classes: run.classes,
        onProgress(done, total) {
          const left = ((performance.now() - started) / 1000 / done) * (total - done);
          task.line(`${done}/${total} windows, ${formatTime(left)} left`);
        },
      });
    });
  }
  if (overlay !== null && (!all || !(await exists(overlay)))) {
    const png = await withRaster(scene, (image) => withRaster(map, (classes) => overlayOf(image, classes)));
    await writeAtomic(overlay, png);
  }
  return !all;
}

/** @throws DataError where a scene is no image of the kind that the model was trained on. */
function requireSame(info: RasterInfo, run: { readonly bands: number; readonly type: string }): void {
  requireImage(info);
  const [is, was] = [`${tileBands(info)} bands, ${tileType(info.type)}`, `${run.bands} bands, ${run.type}`];
  if (is !== was) throw new DataError(info.file, `has ${is}; the model was trained on ${was}`);
}

const exists = (file: string): Promise<boolean> =>
  lstat(file).then(
    () => true,
    () => false,
  );

/** What a map says it was made from; null where it is not there or says nothing. */
async function provenanceOf(file: string): Promise<string | null> {
  if (!(await exists(file))) return null;
  try {
    const texts = /\.tiff?$/i.test(file) ? await readMetadata(file) : readTexts(await readFile(file));
    return texts.get(PROVENANCE) ?? null;
  } catch (error) {
    if (error instanceof DataError) return null;
    throw error;
  }
}

function hashOf(file: string): Promise<string> {
  return new Promise((resolved, reject) => {
    const hash = createHash("sha256");
    createReadStream(file)
      .on("data", (chunk) => hash.update(chunk))
      .on("error", (cause) => reject(new CheckpointError(file, `cannot be read: ${cause.message}`, [], { cause })))
      .on("end", () => resolved(hash.digest("hex")));
  });
}

/** A line that is drawn anew on a terminal, ten times a second at most; null ends it. Elsewhere nothing is shown. */
function lineFor(scene: string, { stdout }: { stdout: NodeJS.WritableStream & { isTTY?: boolean } }) {
  let shown = Number.NEGATIVE_INFINITY;
  return (text: string | null): void => {
    if (stdout.isTTY !== true) return;
    const now = performance.now();
    if (text !== null && now - shown < 100) return;
    shown = now;
    stdout.write(text === null ? "\r\u001b[2K" : `\r\u001b[2K${basename(scene)} ${text}`);
  };
}

/** The images of a folder. @throws DataError where it has none, or does not exist. */
async function listImages(folder: string): Promise<string[]> {
  if (!(await exists(folder))) throw new DataError(folder, "no such folder");
  const names = (await readdir(folder)).filter((name) => !name.startsWith(".") && /\.(png|jpe?g|tiff?)$/i.test(name));
  if (names.length === 0) throw new DataError(folder, "holds no PNG, JPEG or TIFF file");
  return names.map((name) => join(folder, name));
}
