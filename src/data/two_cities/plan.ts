import { Draws, hash, unit, valueNoise } from "./noise.js";
import type { CityStyle, Colour } from "./style.js";

/** Axis-aligned rectangle, metres, in the world (y grows to the south, as rows do) or in street coordinates. */
export interface Bounds {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

export interface Building {
  /** Centre, metres. */
  readonly x: number;
  readonly y: number;
  /** Unit vector along the ridge (the long side). */
  readonly alongX: number;
  readonly alongY: number;
  readonly halfLength: number;
  readonly halfWidth: number;
  /** Height of the eaves, metres. */
  readonly eaves: number;
  /** Rise of the roof per metre from the eaves; 0 is a flat roof. */
  readonly pitch: number;
  readonly hipped: boolean;
  readonly colour: Colour;
  readonly key: number;
}

export interface Tree {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  readonly height: number;
  /** Brightness of this crown, around 1. */
  readonly tone: number;
  readonly key: number;
}

type BlockKind = "houses" | "large" | "park" | "pond";

interface Block {
  readonly kind: BlockKind;
  readonly key: number;
  /** Pond: centre and half axes in street coordinates. */
  readonly pond: readonly [number, number, number, number];
}

interface Street {
  readonly at: number;
  readonly half: number;
  readonly major: boolean;
}

/** The ground at a point, in metres. */
export interface Ground {
  /** How deep inside the roadway, and inside water; negative outside. Only major roads cross water. */
  road: number;
  water: number;
  /** Distance from the centre line of that roadway, and position along it. */
  axis: number;
  along: number;
  major: boolean;
  /** Use of the block. */
  kind: BlockKind;
}

interface Cell extends Bounds {
  readonly block: Block;
  readonly sides: readonly (Street | null)[];
}

/** Every fourth street or so is a major one: wider, marked, and the only kind that has bridges. */
const MAJOR_EVERY = 4;
/** Strip between the roadway and the lots, metres. */
const VERGE = 2;
/** Grid of possible tree places, metres. */
const TREE_CELL = 6.5;

/**
 * The endless map of one city: streets, blocks, buildings, trees and water as functions of position.
 * Streets are the grid lines of coordinates (u, v): the world turned by `angle` and bent by sines.
 */
export class CityPlan {
  private readonly streets: readonly [Map<number, Street>, Map<number, Street>] = [new Map(), new Map()];
  private readonly blocks = new Map<string, Block>();
  private readonly found: Ground = { road: 0, water: 0, axis: 0, along: 0, major: false, kind: "park" };
  private last: Cell | null = null;
  private readonly cos: number;
  private readonly sin: number;
  private readonly wave: number;

  constructor(
    readonly style: CityStyle,
    readonly seed: number,
  ) {
    const angle = (style.streets.angle * Math.PI) / 180;
    this.cos = Math.cos(angle);
    this.sin = Math.sin(angle);
    this.wave = (2 * Math.PI) / style.streets.bend.length;
  }

  /** World metres -> street coordinates (u, v). */
  toStreets(x: number, y: number): [number, number] {
    const p = this.cos * x + this.sin * y;
    const q = this.cos * y - this.sin * x;
    return [p + this.bendAlong(q), q + this.bendAcross(p)];
  }

  /** Two incommensurate waves an axis: no two bends of the city look alike. */
  private bendAlong(q: number): number {
    const { amplitude } = this.style.streets.bend;
    if (amplitude === 0) return 0;
    return amplitude * (Math.sin(this.wave * q) + 0.5 * Math.sin(this.wave * 1.73 * q + 1));
  }

  private bendAcross(p: number): number {
    const { amplitude } = this.style.streets.bend;
    if (amplitude === 0) return 0;
    return 0.7 * amplitude * (Math.sin(this.wave * 0.87 * p + 2) + 0.5 * Math.sin(this.wave * 1.51 * p));
  }

  /** Street coordinates -> world metres, by fixed-point iteration (the bends are gentle, so it contracts). */
  toWorld(u: number, v: number): [number, number] {
    let p = u;
    let q = v;
    for (let turn = 0; turn < 8; turn++) {
      p = u - this.bendAlong(q);
      q = v - this.bendAcross(p);
    }
    return [this.cos * p - this.sin * q, this.sin * p + this.cos * q];
  }

  private street(axis: 0 | 1, index: number): Street {
    const known = this.streets[axis].get(index);
    if (known) return known;
    const { spacing, jitter, halfWidth } = this.style.streets;
    const major =
      hash(this.seed, 11 + axis, Math.floor(index / MAJOR_EVERY)) % MAJOR_EVERY === (index & (MAJOR_EVERY - 1));
    const offset = jitter * (2 * unit(this.seed, 21 + axis, index) - 1);
    const street = { at: (index + offset) * spacing[axis], half: major ? halfWidth.major : halfWidth.minor, major };
    this.streets[axis].set(index, street);
    return street;
  }

  /** Index of the last street at or before this coordinate; jitter below a quarter keeps the search to two candidates. */
  private cell(axis: 0 | 1, at: number): number {
    const nearest = Math.round(at / this.style.streets.spacing[axis]);
    return this.street(axis, nearest).at <= at ? nearest : nearest - 1;
  }

  private block(column: number, row: number): Block {
    const name = `${column},${row}`;
    const known = this.blocks.get(name);
    if (known) return known;
    const key = hash(this.seed, 31, column, row);
    const draws = new Draws(key);
    const { large, park, pond } = this.style.blocks;
    const lot = draws.between(0, 1);
    const kind: BlockKind =
      lot < large ? "large" : lot < large + park ? "park" : lot < large + park + pond ? "pond" : "houses";
    const [left, right] = [this.street(0, column).at, this.street(0, column + 1).at];
    const [top, bottom] = [this.street(1, row).at, this.street(1, row + 1).at];
    const block: Block = {
      kind,
      key,
      pond: [
        (left + right) / 2 + draws.between(-3, 3),
        (top + bottom) / 2 + draws.between(-3, 3),
        ((right - left) / 2) * draws.between(0.55, 0.72),
        ((bottom - top) / 2) * draws.between(0.55, 0.72),
      ],
    };
    this.blocks.set(name, block);
    return block;
  }

  /** Whether the stretch of a street between two crossings exists. Major streets always do. */
  private open(axis: 0 | 1, index: number, stretch: number): boolean {
    if (this.street(axis, index).major) return true;
    return unit(this.seed, 41 + axis, index, stretch) >= this.style.streets.missing;
  }

  /** How deep a point lies inside water, metres; negative on land. */
  private waterDepth(x: number, y: number, u: number, v: number, block: Block): number {
    const { period, halfWidth } = this.style.river;
    // The river runs across the street pattern and meanders; a second one follows a period further on.
    const along = 0.8 * x + 0.6 * y;
    const across =
      0.8 * y - 0.6 * x + 30 * Math.sin(along / 75) + 12 * Math.sin(along / 31 + (this.seed & 7)) + period / 3;
    const offset = across - period * Math.round(across / period);
    let depth = halfWidth - Math.abs(offset);
    if (block.kind === "pond") {
      const [cu, cv, ru, rv] = block.pond;
      const reach = Math.hypot((u - cu) / ru, (v - cv) / rv) + 0.14 * valueNoise(block.key, x / 9, y / 9);
      depth = Math.max(depth, (1 - reach) * Math.min(ru, rv));
    }
    return depth;
  }

  /** What is on the ground at a point. The result is overwritten by the next call: a tile asks for every pixel. */
  ground(x: number, y: number): Readonly<Ground> {
    const p = this.cos * x + this.sin * y;
    const q = this.cos * y - this.sin * x;
    const u = p + this.bendAlong(q);
    const v = q + this.bendAcross(p);
    const found = this.found;
    const { block, sides } = this.cellAt(u, v);
    found.kind = block.kind;
    found.water = this.waterDepth(x, y, u, v, block);
    found.road = Number.NEGATIVE_INFINITY;
    for (let side = 0; side < 4; side++) {
      const street = sides[side];
      if (!street || (!street.major && found.water > -4)) continue;
      const distance = Math.abs((side < 2 ? u : v) - street.at);
      if (street.half - distance <= found.road) continue;
      found.road = street.half - distance;
      found.axis = distance;
      found.along = side < 2 ? v : u;
      found.major = street.major;
    }
    return found;
  }

  /** The block between four streets, and those of its streets that exist: west, east, north, south. */
  private cellAt(u: number, v: number): Cell {
    const last = this.last;
    if (last && u >= last.left && u < last.right && v >= last.top && v < last.bottom) return last;
    const column = this.cell(0, u);
    const row = this.cell(1, v);
    const bounds = [this.street(0, column), this.street(0, column + 1), this.street(1, row), this.street(1, row + 1)];
    const sides = bounds.map((street, side) => {
      const vertical = side < 2;
      const index = (vertical ? column : row) + (side & 1);
      return this.open(vertical ? 0 : 1, index, vertical ? row : column) ? street : null;
    });
    this.last = {
      left: bounds[0]!.at,
      right: bounds[1]!.at,
      top: bounds[2]!.at,
      bottom: bounds[3]!.at,
      block: this.block(column, row),
      sides,
    };
    return this.last;
  }

  /** Every building whose centre lies within the bounds, in a fixed order. */
  buildings(bounds: Bounds): Building[] {
    const found: Building[] = [];
    const [columns, rows] = this.cells(bounds);
    for (let row = rows[0]; row <= rows[1]; row++) {
      for (let column = columns[0]; column <= columns[1]; column++) this.build(column, row, bounds, found);
    }
    return found;
  }

  /** Range of block columns and rows that may reach into the bounds. */
  private cells(bounds: Bounds): [[number, number], [number, number]] {
    let [uMin, uMax, vMin, vMax] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i <= 8; i++) {
      for (let j = 0; j <= 8; j++) {
        const x = bounds.left + ((bounds.right - bounds.left) * i) / 8;
        const y = bounds.top + ((bounds.bottom - bounds.top) * j) / 8;
        const [u, v] = this.toStreets(x, y);
        uMin = Math.min(uMin, u);
        uMax = Math.max(uMax, u);
        vMin = Math.min(vMin, v);
        vMax = Math.max(vMax, v);
      }
    }
    return [
      [this.cell(0, uMin - 5), this.cell(0, uMax + 5)],
      [this.cell(1, vMin - 5), this.cell(1, vMax + 5)],
    ];
  }

  private build(column: number, row: number, bounds: Bounds, found: Building[]): void {
    const block = this.block(column, row);
    if (block.kind === "park" || block.kind === "pond") return;
    const west = this.street(0, column);
    const east = this.street(0, column + 1);
    const north = this.street(1, row);
    const south = this.street(1, row + 1);
    const left = west.at + west.half + VERGE;
    const right = east.at - east.half - VERGE;
    const top = north.at + north.half + VERGE;
    const bottom = south.at - south.half - VERGE;
    const { houses, colours } = this.style;
    const lot = block.kind === "large" ? houses.lot * 1.75 : houses.lot;
    const across = Math.max(1, Math.floor((right - left) / lot));
    const down = Math.max(1, Math.floor((bottom - top) / (lot * 1.1)));
    for (let j = 0; j < down; j++) {
      for (let i = 0; i < across; i++) {
        const key = hash(block.key, 51, i, j);
        const draws = new Draws(key);
        if (!draws.chance(houses.built)) continue;
        const u = left + ((right - left) * (i + 0.5)) / across + draws.between(-1, 1);
        const v = top + ((bottom - top) * (j + 0.5)) / down + draws.between(-1.2, 1.2);
        const [x, y] = this.toWorld(u, v);
        if (x < bounds.left || x > bounds.right || y < bounds.top || y > bounds.bottom) continue;
        const [aheadX, aheadY] = this.toWorld(u + 1, v);
        const step = Math.hypot(aheadX - x, aheadY - y);
        const turned = draws.chance(0.4);
        const [tx, ty] = [(aheadX - x) / step, (aheadY - y) / step];
        const large = block.kind === "large";
        const halfLength = large ? draws.between(0.34, 0.44) * lot : draws.between(...houses.length) / 2;
        const halfWidth = large ? draws.between(0.26, 0.38) * lot : draws.between(...houses.width) / 2;
        const pitched = !large && draws.chance(houses.pitched);
        const base = draws.pick(pitched ? colours.roofs : colours.flatRoofs);
        const tone = draws.between(0.85, 1.15);
        const building: Building = {
          x,
          y,
          alongX: turned ? -ty : tx,
          alongY: turned ? tx : ty,
          halfLength,
          halfWidth,
          eaves: large ? draws.between(7, 11) : draws.between(3, 5),
          pitch: pitched ? draws.between(0.45, 0.75) : 0,
          hipped: draws.chance(0.4),
          colour: [base[0] * tone, base[1] * tone, base[2] * tone],
          key,
        };
        if (this.free(building)) found.push(building);
      }
    }
  }

  /** Whether a building stands clear of roads and water, tested at its corners and side middles. */
  private free(building: Building): boolean {
    for (let i = -1; i <= 1; i++) {
      for (let j = -1; j <= 1; j++) {
        const a = i * (building.halfLength + 0.8);
        const b = j * (building.halfWidth + 0.8);
        const at = this.ground(
          building.x + a * building.alongX - b * building.alongY,
          building.y + a * building.alongY + b * building.alongX,
        );
        if (at.road > 0 || at.water > -2) return false;
      }
    }
    return true;
  }

  /** Every tree within the bounds, clear of the given buildings, in a fixed order. */
  trees(bounds: Bounds, buildings: readonly Building[]): Tree[] {
    const { trees } = this.style;
    const found: Tree[] = [];
    for (let row = Math.floor(bounds.top / TREE_CELL); row <= Math.floor(bounds.bottom / TREE_CELL); row++) {
      for (let column = Math.floor(bounds.left / TREE_CELL); column <= Math.floor(bounds.right / TREE_CELL); column++) {
        const key = hash(this.seed, 61, column, row);
        const draws = new Draws(key);
        const x = (column + draws.between(0.1, 0.9)) * TREE_CELL;
        const y = (row + draws.between(0.1, 0.9)) * TREE_CELL;
        const roll = draws.between(0, 1);
        if (roll >= Math.max(trees.yard, trees.street, trees.park)) continue;
        const at = this.ground(x, y);
        if (at.road > -0.6 || at.water > -1.2) continue;
        const share = at.road > -4 ? trees.street : at.kind === "park" || at.kind === "pond" ? trees.park : trees.yard;
        if (roll >= share) continue;
        const radius = draws.between(...trees.radius) * (at.kind === "park" ? 1.15 : 1);
        const height = radius * draws.between(1.7, 2.3);
        const tone = draws.between(0.75, 1.25);
        if (buildings.some((building) => within(building, x, y, 0.45 * radius))) continue;
        found.push({ x, y, radius, height, tone, key });
      }
    }
    return found;
  }
}

/** Whether a point lies inside a building's footprint widened by `margin` metres. */
function within(building: Building, x: number, y: number, margin: number): boolean {
  const dx = x - building.x;
  const dy = y - building.y;
  const a = dx * building.alongX + dy * building.alongY;
  const b = dy * building.alongX - dx * building.alongY;
  return Math.abs(a) < building.halfLength + margin && Math.abs(b) < building.halfWidth + margin;
}
