import { writeAtomic } from "../checkpoint/index.js";
import { encodePNG } from "../data/png.js";
import type { Raster } from "../data/raster/raster.js";
import { type TiffSpec, TiffWriter } from "../data/raster/tiff_writer.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { classColour } from "./report/pictures.js";
import { predictScene, type SceneOptions, type SceneRows } from "./scene.js";

/** Value of a class map where nothing was measured. */
export const NO_CLASS = 255;
/** Name of the metadata item (GeoTIFF) or text (PNG) that says what a map was made from. */
export const PROVENANCE = "LACUNA_PROVENANCE";

export interface MapOptions extends Omit<SceneOptions, "from"> {
  readonly classes: readonly string[];
  /** What decides the content of the files: scene, model and options. It is written into them. */
  readonly provenance: string;
  /** Class map: a GeoTIFF where the name ends in .tif or .tiff, else a PNG. */
  readonly map: string;
  /** GeoTIFF of one 8-bit band a class, 255 for certainty; null: none. */
  readonly probabilities: string | null;
}

/**
 * Predicts a whole scene and writes its class map (and probabilities) with the scene's georeference. GeoTIFFs grow on the disk:
 * stopped by a signal or killed, the next call with the same provenance goes on from the last complete rows, to the same
 * bytes. A PNG is written at the end.
 * @throws as `predictScene`; the system's errors where a file cannot be written.
 */
export async function mapScene(model: DeepLabV3Plus, raster: Raster, options: MapOptions): Promise<void> {
  const { map, probabilities } = options;
  if (!/\.tiff?$/i.test(map)) return mapToPNG(model, raster, options);
  const { width, height, geo } = raster.info;
  const { classes, provenance } = options;
  const common = { width, height, type: "u8", geo, rgb: false } as const;
  const names = classes.map((name, i) => [`CLASS_${i}`, name] as const);
  const metadata = new Map([...names, [PROVENANCE, provenance] as const]);
  const classSpec: TiffSpec = {
    ...common,
    bands: 1,
    noData: NO_CLASS,
    palette: palette(classes.length),
    metadata,
    notes: [],
  };
  const notes = classes.map((description) => ({ description, scale: 1 / 255 }));
  const shareSpec: TiffSpec = { ...common, bands: classes.length, noData: null, palette: null, metadata, notes };
  const writers = [await TiffWriter.open(map, classSpec, provenance)];
  try {
    if (probabilities !== null) writers.push(await TiffWriter.open(probabilities, shareSpec, provenance));
    const from = Math.min(...writers.map(({ rows }) => rows));
    for (const writer of writers) await writer.rewind(from);
    if (from < height) {
      for await (const rows of predictScene(model, raster, { ...options, from })) {
        await writers[0]!.write(classesOf(rows, classes.length));
        await writers[1]?.write(rows.probabilities.length === 0 ? new Uint8Array() : sharesOf(rows));
      }
    }
  } catch (error) {
    for (const writer of writers) await writer.close();
    throw error;
  }
  // The map comes last: where it stands, everything does.
  for (const writer of writers.reverse()) await writer.finish();
}

async function mapToPNG(model: DeepLabV3Plus, raster: Raster, options: MapOptions): Promise<void> {
  const { width, height } = raster.info;
  const labels = new Uint8Array(width * height);
  for await (const rows of predictScene(model, raster, options)) {
    labels.set(classesOf(rows, options.classes.length), rows.y * width);
  }
  await writeAtomic(options.map, encodePNG(labels, height, width, new Map([[PROVENANCE, options.provenance]])));
}

/** The most likely class of every pixel; the first of equals. */
function classesOf({ probabilities, valid }: SceneRows, classes: number): Uint8Array {
  return valid.map((measured, p) => {
    if (measured === 0) return NO_CLASS;
    let best = 0;
    for (let c = 1; c < classes; c++)
      if (probabilities[p * classes + c]! > probabilities[p * classes + best]!) best = c;
    return best;
  });
}

/** Probabilities as bytes; 0 for every class where nothing was measured. */
function sharesOf({ probabilities, valid }: SceneRows): Uint8Array {
  const classes = probabilities.length / valid.length;
  return Uint8Array.from(probabilities, (p, i) => (valid[Math.floor(i / classes)] === 0 ? 0 : Math.round(255 * p)));
}

/** Class colours; black for every other value. */
function palette(classes: number): Uint8Array {
  const colours = new Uint8Array(256 * 3);
  for (let index = 0; index < classes; index++) colours.set(classColour(index), index * 3);
  return colours;
}
