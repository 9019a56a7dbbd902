import { readFile } from "node:fs/promises";
import type { Domain } from "../data/dataset.js";
import { anyFolderRecipe } from "../data/prepare/any_folder.js";
import { cutTiles } from "../data/prepare/cut.js";
import {
  bandMaps,
  borderKinds,
  type IsprsOptions,
  isprsSplits,
  potsdamRecipe,
  vaihingenRecipe,
} from "../data/prepare/isprs.js";
import { colourKey, type LabelRule, plainValues } from "../data/prepare/labels.js";
import { loveDARecipe, loveDAScenes } from "../data/prepare/loveda.js";
import type { Recipe } from "../data/prepare/recipe.js";
import { parseArguments, required, type Terminal, UsageError, wholeNumber } from "./command.js";

export const DATA_PREPARE_HELP = `Usage: lacuna data prepare potsdam|vaihingen DIR --out OUT [--as source|target] [options]
       lacuna data prepare loveda DIR --out OUT --source rural --target urban [options]
       lacuna data prepare tiles --out OUT --source DIR --target DIR [options]

Cuts the images of an unpacked archive, or of any folder, into tiles for lacuna train, one window at a time: any bands and
depth, georeference and no-data kept. OUT/{source,target}/manifest.json says where each tile came from; the protocol tag
in OUT/dataset.json goes into every report. Run it once for each domain: OUT grows. What is there already stays.

  --out OUT          {source,target}/{train,val}/{images,labels}
  --tile PIXELS      side of a tile (default 512)
  --stride PIXELS    from one tile to the next (default: the side); the last is moved back to the edge
  --gsd METRES       resample to this ground sample distance: means of areas, labels by the nearest pixel

potsdam, vaihingen   files named as the ISPRS archives name them, in any folders below DIR
  --as DOMAIN        source (default) or target
  --split NAME       isprs: the organisers' (default); stdasegnet: ST-DASegNet's, Vaihingen only
  --borders KIND     full (default), or eroded: the noBoundary labels, where borders of objects count nowhere
  --clutter HOW      ignore (default): five classes; keep: clutter is the sixth
  --bands MAP        rgb or irrg (default: infrared, red, green, as Vaihingen has it)

loveda               {Train,Val}/{Urban,Rural}/{images_png,masks_png}; 0 is no data, 1 to 7 become 0 to 6

tiles                each DIR: images/ and labels/ of the same names; or images alone, for a target
  --classes A,B,…    names of the label values 0, 1, …; 255 counts nowhere
  --colours FILE     instead: JSON, {"road": [255, 255, 255], …}, of labels that show colours; "ignore" is no class
  --bands 1,2,3      bands to keep, in order (default: all)
  --val-share S      of whole scenes, or of a single scene's rows (default 0.2)`;

/** @returns 0 where everything is there. */
export async function dataPrepare(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values, positionals } = parseArguments("data", args, {
    out: { type: "string" },
    tile: { type: "string", default: "512" },
    stride: { type: "string" },
    gsd: { type: "string" },
    as: { type: "string", default: "source" },
    split: { type: "string", default: "isprs" },
    borders: { type: "string", default: "full" },
    clutter: { type: "string", default: "ignore" },
    bands: { type: "string" },
    source: { type: "string" },
    target: { type: "string" },
    classes: { type: "string" },
    colours: { type: "string" },
    "val-share": { type: "string", default: "0.2" },
  });
  const out = required("data", "out", values.out);
  const tile = wholeNumber("tile", values.tile, 16, 8192);
  const stride = values.stride === undefined ? tile : wholeNumber("stride", values.stride, 1, 8192);
  const gsd = values.gsd === undefined ? null : decimal("gsd", values.gsd, 1e-3, 1e3);
  const recipes = await recipesOf(positionals, values, tile);
  for (const recipe of recipes) {
    const report = await cutTiles(recipe, out, { tile, stride, gsd }, (name, done, total) => {
      if (terminal.stdout.isTTY) terminal.stdout.write(`\r\u001b[2K${recipe.domain} ${done}/${total} ${name}`);
    });
    if (terminal.stdout.isTTY) terminal.stdout.write("\r\u001b[2K");
    if (!report) {
      terminal.stdout.write(`${recipe.domain}: there already, by this protocol\n`);
      continue;
    }
    const { tiles, empty, protocol } = report;
    const left = empty > 0 ? `; ${empty} without a measured pixel left out` : "";
    terminal.stdout.write(
      `${recipe.domain}: ${tiles.train} tiles to train on, ${tiles.val} to validate${left}; ${protocol}\n`,
    );
  }
  return 0;
}

type Values = Readonly<Partial<Record<string, string>>>;

async function recipesOf([what, dir, ...more]: readonly string[], values: Values, tile: number): Promise<Recipe[]> {
  const kinds = ["potsdam", "vaihingen", "loveda", "tiles"] as const;
  if (what === undefined || more.length > 0) throw new UsageError(`data prepare needs one of ${kinds.join(", ")}`);
  switch (what) {
    case "potsdam":
    case "vaihingen": {
      const options: IsprsOptions = {
        domain: choice("as", values.as, ["source", "target"]),
        split: choice("split", values.split, isprsSplits),
        borders: choice("borders", values.borders, borderKinds),
        clutter: choice("clutter", values.clutter, ["keep", "ignore"]),
        bands: choice("bands", values.bands ?? "irrg", bandMaps),
      };
      const root = folder(dir, what);
      return [await (what === "potsdam" ? potsdamRecipe(root, options) : vaihingenRecipe(root, options))];
    }
    case "loveda": {
      const root = folder(dir, what);
      const domains = (["source", "target"] as const).filter((domain) => values[domain] !== undefined);
      if (domains.length === 0) throw new UsageError("data prepare loveda needs --source or --target: rural or urban");
      return Promise.all(domains.map((d) => loveDARecipe(root, d, choice(d, values[d], loveDAScenes))));
    }
    case "tiles": {
      if (dir !== undefined) throw new UsageError("data prepare tiles takes its folders by --source and --target");
      return tilesRecipes(values, tile);
    }
    default:
      throw new UsageError(`data prepare knows ${kinds.join(", ")}, not "${what}"`);
  }
}

async function tilesRecipes(values: Values, tile: number): Promise<Recipe[]> {
  const { classes, labels } = await classesOf(values);
  const valShare = decimal("val-share", values["val-share"]!, 0, 0.9);
  const bands = values.bands?.split(",").map((text) => wholeNumber("bands", text, 1, 1024) - 1) ?? null;
  if (bands && new Set(bands).size !== bands.length) throw new UsageError("--bands names a band twice");
  const domains = (["source", "target"] as const).filter((domain) => values[domain] !== undefined);
  if (domains.length === 0) throw new UsageError("data prepare tiles needs --source DIR or --target DIR");
  const of = (domain: Domain) =>
    anyFolderRecipe(values[domain]!, { domain, classes, labels, bands, valShare, gap: tile });
  return Promise.all(domains.map(of));
}

async function classesOf(values: Values): Promise<{ classes: string[]; labels: LabelRule }> {
  if (values.colours === undefined) {
    const classes = required("data", "classes", values.classes).split(",");
    return { classes, labels: plainValues(classes.length) };
  }
  if (values.classes !== undefined) throw new UsageError("--colours names the classes, too: --classes is not needed");
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(values.colours, "utf8"));
  } catch (cause) {
    throw new UsageError(`--colours ${values.colours}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  const entries = Object.entries(parsed !== null && typeof parsed === "object" ? parsed : {});
  const index = new Map<number, number>();
  const classes: string[] = [];
  for (const [name, colour] of entries) {
    const isColour = Array.isArray(colour) && colour.length === 3;
    if (!isColour || !colour.every((v) => Number.isInteger(v) && v >= 0 && v <= 255)) {
      throw new UsageError(`--colours ${values.colours}: ${name} must be [red, green, blue], each from 0 to 255`);
    }
    index.set(colourKey(colour[0], colour[1], colour[2]), name === "ignore" ? 255 : classes.length);
    if (name !== "ignore") classes.push(name);
  }
  if (classes.length < 2) throw new UsageError(`--colours ${values.colours}: names fewer than two classes`);
  return { classes, labels: { kind: "colours", index } };
}

function folder(dir: string | undefined, what: string): string {
  if (dir === undefined) throw new UsageError(`data prepare ${what} needs the folder of the unpacked archives`);
  return dir;
}

function choice<const T extends string>(option: string, value: string | undefined, known: readonly T[]): T {
  const found = known.find((name) => name === value);
  if (found === undefined) throw new UsageError(`--${option} must be ${known.join(" or ")}, not "${value}"`);
  return found;
}

function decimal(option: string, text: string, min: number, max: number): number {
  const value = /^\d*\.?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new UsageError(`--${option} must be a number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}
