/** What makes one city differ from the other: everything the generator may vary, in metres, degrees and reflectances. */

/** Linear reflectance (red, green, blue), 0..1. */
export type Colour = readonly [number, number, number];

export interface CityStyle {
  /** Ground sample distance, metres per pixel. */
  readonly gsd: number;
  readonly sun: {
    /** Degrees clockwise from north (up). */
    readonly azimuth: number;
    /** Degrees above the horizon. */
    readonly elevation: number;
  };
  readonly streets: {
    /** Turn of the whole grid, degrees. */
    readonly angle: number;
    /** Mean distance between streets along the two axes, metres. */
    readonly spacing: readonly [number, number];
    /** How far a street may leave its place in the grid, as a share of the spacing; below 0.25. */
    readonly jitter: number;
    /** Bends: amplitude and wave length, metres. Slope 2π·amplitude/length stays below 0.7 so that the map can be inverted. */
    readonly bend: { readonly amplitude: number; readonly length: number };
    /** Share of street segments that are missing, so that blocks merge. */
    readonly missing: number;
    readonly halfWidth: { readonly minor: number; readonly major: number };
  };
  /** Shares of blocks; the rest are blocks of houses. */
  readonly blocks: { readonly large: number; readonly park: number; readonly pond: number };
  readonly river: { readonly period: number; readonly halfWidth: number };
  readonly houses: {
    /** Lot width and house size, metres. */
    readonly lot: number;
    readonly length: readonly [number, number];
    readonly width: readonly [number, number];
    /** Share of lots that are built on. */
    readonly built: number;
    /** Share of gabled and hipped roofs; the rest are flat. */
    readonly pitched: number;
  };
  readonly trees: {
    readonly yard: number;
    readonly street: number;
    readonly park: number;
    readonly radius: readonly [number, number];
  };
  readonly colours: {
    readonly grass: Colour;
    readonly soil: Colour;
    readonly asphalt: Colour;
    readonly pavement: Colour;
    readonly water: Colour;
    readonly foliage: Colour;
    readonly roofs: readonly Colour[];
    readonly flatRoofs: readonly Colour[];
  };
  readonly haze: {
    /** Optical depth: mean and how far it swings from place to place (both directions); never below 0. */
    readonly depth: number;
    readonly swing: number;
    /** Distance over which the haze changes, metres. */
    readonly length: number;
    /** Light scattered towards the sensor by infinitely deep haze. */
    readonly airlight: Colour;
  };
  readonly sensor: {
    /** Per channel: value = offset + gain · radiance^gamma, in 0..1. */
    readonly gain: Colour;
    readonly offset: Colour;
    readonly gamma: number;
    /** Standard deviation of the point spread, pixels. */
    readonly blur: number;
    /** Standard deviation of the read noise, 0..1. */
    readonly noise: number;
  };
}

/** A North American grid in early summer: sun from the south-east, red and brown shingle, dark asphalt, neutral sensor. */
export const SOURCE: CityStyle = {
  gsd: 0.6,
  sun: { azimuth: 140, elevation: 52 },
  streets: {
    angle: 4,
    spacing: [66, 52],
    jitter: 0.08,
    bend: { amplitude: 0, length: 200 },
    missing: 0,
    halfWidth: { minor: 3.6, major: 6 },
  },
  blocks: { large: 0.2, park: 0.14, pond: 0.1 },
  river: { period: 420, halfWidth: 16 },
  houses: { lot: 17, length: [11, 15], width: [8, 11], built: 0.92, pitched: 0.85 },
  trees: { yard: 0.2, street: 0.3, park: 0.55, radius: [1.8, 3.8] },
  colours: {
    grass: [0.17, 0.25, 0.1],
    soil: [0.3, 0.25, 0.17],
    asphalt: [0.15, 0.15, 0.16],
    pavement: [0.36, 0.35, 0.33],
    water: [0.04, 0.08, 0.13],
    foliage: [0.07, 0.14, 0.05],
    roofs: [
      [0.42, 0.18, 0.12],
      [0.36, 0.2, 0.14],
      [0.46, 0.26, 0.16],
      [0.3, 0.17, 0.13],
      [0.34, 0.28, 0.25],
    ],
    flatRoofs: [
      [0.5, 0.47, 0.43],
      [0.4, 0.37, 0.35],
      [0.44, 0.3, 0.24],
    ],
  },
  haze: { depth: 0.02, swing: 0.02, length: 220, airlight: [0.5, 0.55, 0.62] },
  sensor: { gain: [1, 1, 1], offset: [0.02, 0.02, 0.02], gamma: 0.62, blur: 0.55, noise: 0.012 },
};

/** An old town in a dry late autumn: low sun from the south-west, bent streets, slate and tin, hazy sensor with a colour cast. */
export const TARGET: CityStyle = {
  gsd: 0.8,
  sun: { azimuth: 232, elevation: 40 },
  streets: {
    angle: 33,
    spacing: [56, 46],
    jitter: 0.22,
    bend: { amplitude: 11, length: 170 },
    missing: 0.22,
    halfWidth: { minor: 3.2, major: 5 },
  },
  blocks: { large: 0.16, park: 0.2, pond: 0.08 },
  river: { period: 360, halfWidth: 20 },
  houses: { lot: 14.5, length: [10, 14], width: [7.5, 10], built: 0.88, pitched: 0.75 },
  trees: { yard: 0.24, street: 0.22, park: 0.6, radius: [1.8, 4.2] },
  colours: {
    grass: [0.23, 0.24, 0.12],
    soil: [0.34, 0.28, 0.19],
    asphalt: [0.2, 0.19, 0.18],
    pavement: [0.36, 0.34, 0.3],
    water: [0.07, 0.1, 0.09],
    foliage: [0.09, 0.13, 0.06],
    roofs: [
      [0.27, 0.28, 0.32],
      [0.34, 0.33, 0.35],
      [0.38, 0.26, 0.22],
      [0.22, 0.23, 0.26],
      [0.42, 0.3, 0.24],
    ],
    flatRoofs: [
      [0.48, 0.48, 0.48],
      [0.38, 0.39, 0.41],
      [0.36, 0.3, 0.27],
    ],
  },
  haze: { depth: 0.05, swing: 0.05, length: 150, airlight: [0.5, 0.55, 0.62] },
  sensor: { gain: [0.85, 0.93, 0.97], offset: [0.04, 0.055, 0.08], gamma: 0.7, blur: 0.7, noise: 0.016 },
};
