import { ArgumentError } from "../errors.js";
import { hash } from "./two_cities/noise.js";
import { CityPlan } from "./two_cities/plan.js";
import { render } from "./two_cities/render.js";
import { SOURCE, TARGET } from "./two_cities/style.js";

export type City = "source" | "target";
export type Split = "train" | "val";

export interface TileRequest {
  readonly city: City;
  readonly split: Split;
  /** Which tile of the split, from 0. Neighbouring indices are neighbouring windows of the same city. */
  readonly index: number;
  /** Pixels a side. */
  readonly size: number;
  /** Which pair of cities; another seed lays out other streets, houses and trees in the same two styles. */
  readonly seed: number;
}

export interface Tile {
  /** [size, size, 3], 8-bit red, green, blue. */
  readonly image: Uint8Array;
  /** [size, size], class index of `twoCities.classes`. */
  readonly label: Uint8Array;
}

/** Tiles a row of the mosaic; tile `index` is the window at column index mod 16, row floor(index / 16). */
const TILES_A_ROW = 16;
/** World pixel rows between the regions of the two splits: further apart than any split is tall. */
const SPLIT_DISTANCE = 1_000_000;

const plans = new Map<string, CityPlan>();

/** The plan of one city; kept, because drawing streets anew for every tile would cost more than the tile. */
function planOf(city: City, seed: number): CityPlan {
  const name = `${city} ${seed}`;
  let plan = plans.get(name);
  if (!plan) {
    plan = new CityPlan(city === "source" ? SOURCE : TARGET, hash(seed, city === "source" ? 1 : 2, 0x7c1));
    if (plans.size >= 8) plans.clear();
    plans.set(name, plan);
  }
  return plan;
}

function tile({ city, split, index, size, seed }: TileRequest): Tile {
  if (!Number.isInteger(index) || index < 0)
    throw new ArgumentError("twoCities.tile", `index ${index} is not 0, 1, 2 …`);
  if (!Number.isInteger(size) || size < 1)
    throw new ArgumentError("twoCities.tile", `size ${size} is not a count of pixels`);
  if (!Number.isInteger(seed)) throw new ArgumentError("twoCities.tile", `seed ${seed} is not an integer`);
  const column = (index % TILES_A_ROW) * size;
  const row = Math.floor(index / TILES_A_ROW) * size + (split === "val" ? SPLIT_DISTANCE : 0);
  return render(planOf(city, seed), column, row, size);
}

/**
 * The built-in data set: two endless procedural cities seen from the air, rendered tile by tile on request.
 *
 * The cities share what makes a roof a roof (straight edges, ridges, shadows, texture) and differ in what a sensor, a
 * season and a planner change: sun, colour cast and haze, ground sample distance, street pattern, materials, class shares.
 * A network that is trained on the source by colour alone fails on the target; one that learns what both share does not.
 *
 * `tile` is pure: the same request gives the same bytes, in any order. Another JavaScript engine may round a sine or a power
 * differently, which moves single pixels by a grey level.
 * Train and val are windows of different regions, so they share no object.
 */
export const twoCities = {
  /** Names of the label values 0..4. Shadow is an effect of light and not a class; 255 (ignore) does not occur. */
  classes: ["ground", "building", "road", "tree", "water"],
  tile,
} as const;
