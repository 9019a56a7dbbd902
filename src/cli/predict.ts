import { lstat, mkdir, readdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { writeAtomic } from "../checkpoint/index.js";
import { readImage } from "../data/image.js";
import { encodePNG } from "../data/png.js";
import { open } from "../device.js";
import { DataError } from "../errors.js";
import { foldBatchNorms } from "../nn/index.js";
import { CHECKPOINT, loadTrained } from "../train/checkpoint.js";
import { predict } from "../train/evaluate.js";
import { type Command, parseOptions, required, UsageError } from "./command.js";
import { deviceName } from "./device_option.js";
import { Interrupt } from "./interrupt.js";

export const predictCommand: Command = {
  name: "predict",
  summary: "write a class map for every image of a folder",
  help: `Usage: lacuna predict --run DIR --images DIR --out DIR [--domain source|target] [--device NAME]

Writes DIR/STEM.png of 8-bit class indices for every PNG, JPEG or TIFF image, in one pass over each whole image.

  --run DIR       output folder of lacuna train
  --images DIR    images
  --out DIR       class maps
  --domain NAME   whose channel statistics the images have: source or target (default)
  --device NAME   webgpu or reference (default: the first that opens)`,
  async run(args, terminal) {
    const options = parseOptions("predict", args, {
      run: { type: "string" },
      images: { type: "string" },
      out: { type: "string" },
      domain: { type: "string", default: "target" },
      device: { type: "string" },
    });
    const file = join(required("predict", "run", options.run), CHECKPOINT);
    const folder = required("predict", "images", options.images);
    const out = required("predict", "out", options.out);
    const { domain } = options;
    if (domain !== "source" && domain !== "target") {
      throw new UsageError(`--domain must be source or target, not "${domain}"`);
    }
    const names = await listImages(folder);
    using device = await open(deviceName(options.device));
    using trained = await loadTrained(file, device);
    using interrupt = new Interrupt((signal) => terminal.stdout.write(`${signal}: stopping after this image\n`));
    await mkdir(out, { recursive: true });
    trained.model.eval();
    using _ = foldBatchNorms(trained.model);
    for (const [stem, image] of names) {
      if (interrupt.code !== null) return interrupt.code;
      const { height, width, data } = await readImage(image);
      const tile = { name: stem, height, width, bands: 3, image: data, valid: null, label: null };
      const [classes] = await predict(trained.model, [tile], trained.run.statistics[domain]);
      await writeAtomic(join(out, `${stem}.png`), encodePNG(classes!, height, width));
    }
    terminal.stdout.write(`${names.size} class maps in ${out}\n`);
    return interrupt.code ?? 0;
  },
};

/** Stem to file, in order. */
async function listImages(folder: string): Promise<Map<string, string>> {
  const found = await lstat(folder).catch(() => null);
  if (!found) throw new DataError(folder, "no such folder");
  const stems = new Map<string, string>();
  for (const name of (await readdir(folder)).sort()) {
    const extension = extname(name);
    if (name.startsWith(".") || !/^\.(png|jpe?g|tiff?)$/i.test(extension)) continue;
    const stem = basename(name, extension);
    const file = join(folder, name);
    if (stems.has(stem)) throw new DataError(file, `shares its stem with ${basename(stems.get(stem)!)}`);
    stems.set(stem, file);
  }
  if (stems.size === 0) throw new DataError(folder, "holds no PNG, JPEG or TIFF file");
  return stems;
}
