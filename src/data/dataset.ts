import type { DatasetOrigin } from "./origin.js";

/** The labelled domain that training sees in full, and the one it adapts to. */
export type Domain = "source" | "target";
export type Split = "train" | "val";

/** One tile in host memory. */
export interface Tile {
  /** Where it came from, for messages. */
  readonly name: string;
  readonly height: number;
  readonly width: number;
  readonly bands: number;
  /** As stored; `fullScale` makes it comparable. */
  readonly image: TileSamples; // [height, width, bands]
  /** 0 where nothing was measured; null where everything was. The label is the ignore index there. */
  readonly valid: Uint8Array | null; // [height, width]
  /** Class indices, or the ignore index; null where the split has no labels. */
  readonly label: Uint8Array | null; // [height, width]
}

/** Element types of tiles: 8 and 16 bits unsigned as they are, all else as f32. */
export const tileTypes = ["u8", "u16", "f32"] as const;
export type TileType = (typeof tileTypes)[number];
export type TileSamples = Uint8Array | Uint16Array | Float32Array;

export const typeOf = (image: TileSamples): TileType =>
  image instanceof Uint8Array ? "u8" : image instanceof Uint16Array ? "u16" : "f32";

/** What samples are divided by before statistics apply: the largest value of an unsigned type, 1 for floats. */
export const fullScale = (image: TileSamples): number => tileFullScale(typeOf(image));
export const tileFullScale = (type: TileType): number => ({ u8: 255, u16: 65535, f32: 1 })[type];

/** The tiles of one split, by index. Reading the same index twice gives the same tile. */
export interface TileSource {
  /** `source/train`, for messages. */
  readonly name: string;
  readonly length: number;
  /** @throws DataError where the tile cannot be used; RangeError where `index` is not in [0, length). */
  read(index: number): Promise<Tile>;
}

/**
 * Tiles of two domains with one list of classes. `target/train` carries no labels: adaptation must not see them, so no
 * implementation hands them out.
 */
export interface Dataset {
  readonly name: string;
  readonly classes: readonly string[];
  /** Of every image, alpha not counted. */
  readonly bands: number;
  /** Element type of every image. */
  readonly type: TileType;
  /** How the set was prepared, for reports (`potsdam-isprs-irrg-eroded-…`); null or missing where nobody says. */
  readonly protocol?: string | null;
  /** How threads can open it, too; missing where they cannot. */
  readonly origin?: DatasetOrigin;
  /** Label value of pixels that count nowhere. */
  readonly ignoreIndex: number;
  /** Does the split exist? */
  has(domain: Domain, split: Split): boolean;
  /** @throws DataError where the split does not exist. */
  split(domain: Domain, split: Split): TileSource;
}

/** Remembers decoded tiles up to `megabytes`, so that small sets are decoded once. Later tiles are read every time. */
export function cached(source: TileSource, megabytes = 512): TileSource {
  const held = new Map<number, Tile>();
  let bytes = 0;
  return {
    name: source.name,
    length: source.length,
    async read(index) {
      const before = held.get(index);
      if (before) return before;
      const tile = await source.read(index);
      const size = tile.image.byteLength + (tile.label?.length ?? 0) + (tile.valid?.length ?? 0);
      if (!held.has(index) && bytes + size <= megabytes * 2 ** 20) {
        bytes += size;
        held.set(index, tile);
      }
      return tile;
    },
  };
}
