import { grain, hash, valueNoise } from "./noise.js";
import type { Bounds, Building, CityPlan, Tree } from "./plan.js";

/** Class indices of the label, in the order of `twoCities.classes`. */
export const GROUND = 0;
export const BUILDING = 1;
export const ROAD = 2;
export const TREE = 3;
export const WATER = 4;

/** The tallest thing in either city, metres: bounds how far away something may stand and still cast a shadow into the tile. */
const TALLEST = 12;
/** Rows and columns around the tile that the blur reads. */
const APRON = 2;
/** Light of the sky alone, as a share of full sunlight on flat ground, per channel: shadows are bluish. */
const SKY = [0.26, 0.3, 0.38] as const;

/** Layers of a tile and its surroundings, row by row. */
interface Canvas {
  /** Pixels a side, margin included. */
  readonly side: number;
  readonly margin: number;
  /** World position of the first pixel's corner, pixels. */
  left: number;
  top: number;
  readonly label: Uint8Array;
  /** Height above ground, metres. */
  readonly height: Float32Array;
  /** Reflectance, three a pixel. */
  readonly albedo: Float32Array;
  /** Cosine between surface normal and sun over the cosine on flat ground; 1 on flat ground. */
  readonly facing: Float32Array;
  /** Light that leaves the seen square and its apron. [size + 2 APRON, size + 2 APRON, 3] */
  readonly radiance: Float32Array;
  /** The same, blurred along x. [size + 2 APRON, size, 3] */
  readonly blurred: Float32Array;
}

/** The canvas of the last size, painted over tile by tile: fresh arrays for each would keep the collector busy. */
let kept: Canvas | null = null;

function canvasOf(size: number, margin: number): Canvas {
  const side = size + 2 * margin;
  if (kept?.side === side && kept.margin === margin) {
    kept.height.fill(0);
    kept.facing.fill(1);
    return kept;
  }
  const seen = size + 2 * APRON;
  kept = {
    side,
    margin,
    left: 0,
    top: 0,
    label: new Uint8Array(side * side),
    height: new Float32Array(side * side),
    albedo: new Float32Array(side * side * 3),
    facing: new Float32Array(side * side).fill(1),
    radiance: new Float32Array(seen * seen * 3),
    blurred: new Float32Array(seen * size * 3),
  };
  return kept;
}

/** Unit vector towards the sun: x east, y south, z up. */
function towardsSun(azimuth: number, elevation: number): readonly [number, number, number] {
  const a = (azimuth * Math.PI) / 180;
  const e = (elevation * Math.PI) / 180;
  return [Math.sin(a) * Math.cos(e), -Math.cos(a) * Math.cos(e), Math.sin(e)];
}

/**
 * Renders the window of a city whose first pixel is (column, row) in world pixels.
 * Returns the image [size, size, 3] as 8-bit values and the label [size, size].
 */
export function render(
  plan: CityPlan,
  column: number,
  row: number,
  size: number,
): { image: Uint8Array; label: Uint8Array } {
  const { gsd, sun } = plan.style;
  const light = towardsSun(sun.azimuth, sun.elevation);
  const reach = Math.ceil(TALLEST / (Math.tan((sun.elevation * Math.PI) / 180) * gsd));
  const margin = reach + APRON;
  const canvas = canvasOf(size, margin);
  const { side } = canvas;
  canvas.left = column - margin;
  canvas.top = row - margin;
  paintGround(plan, canvas, margin - APRON, size + 2 * APRON);
  // Buildings and trees whose centres lie just outside still reach in: 18 m covers half the longest building.
  const bounds: Bounds = {
    left: canvas.left * gsd - 18,
    top: canvas.top * gsd - 18,
    right: (canvas.left + side) * gsd + 18,
    bottom: (canvas.top + side) * gsd + 18,
  };
  const buildings = plan.buildings(bounds);
  for (const building of buildings) paintBuilding(plan, canvas, building, light);
  for (const tree of plan.trees(bounds, buildings)) paintTree(plan, canvas, tree, light);

  illuminate(canvas, size, light, gsd, reach);
  const label = new Uint8Array(size * size);
  for (let y = 0; y < size; y++) {
    const start = (y + margin) * side + margin;
    label.set(canvas.label.subarray(start, start + size), y * size);
  }
  return { image: expose(plan, canvas, column, row, size), label };
}

/** Grass, soil, pavement, asphalt with its markings, and water, over the square that will be seen. */
function paintGround(plan: CityPlan, canvas: Canvas, from: number, count: number): void {
  const { style, seed } = plan;
  const { colours, gsd } = style;
  for (let py = from; py < from + count; py++) {
    for (let px = from; px < from + count; px++) {
      const wx = canvas.left + px;
      const wy = canvas.top + py;
      const x = (wx + 0.5) * gsd;
      const y = (wy + 0.5) * gsd;
      const at = plan.ground(x, y);
      const i = py * canvas.side + px;
      if (at.road > 0 && (at.water < 0 || at.major)) {
        canvas.label[i] = ROAD;
        const worn = 1 + 0.1 * valueNoise(seed + 1, x / 7, y / 7) + 0.04 * grain(seed + 2, wx, wy, 0);
        const line = at.major && at.axis < 0.35 && ((at.along % 9) + 9) % 9 < 4.5;
        for (let c = 0; c < 3; c++) canvas.albedo[3 * i + c] = line ? 0.6 : colours.asphalt[c] * worn;
      } else if (at.water > 0) {
        canvas.label[i] = WATER;
        const ripple = 0.06 * valueNoise(seed + 3, x / 2.2 + y / 5, y / 1.1);
        const glint = Math.max(0, valueNoise(seed + 4, x / 30, y / 30)) * 0.035;
        const shallow = Math.exp(-at.water / 2.5) * 0.5;
        for (let c = 0; c < 3; c++) {
          canvas.albedo[3 * i + c] =
            colours.water[c] * (1 + ripple - shallow) + shallow * colours.soil[c] * 0.6 + glint;
        }
      } else if (at.road > -1.3 && at.water < -1) {
        canvas.label[i] = GROUND;
        const slab = 1 + 0.05 * grain(seed + 5, wx, wy, 0);
        for (let c = 0; c < 3; c++) canvas.albedo[3 * i + c] = colours.pavement[c] * slab;
      } else {
        canvas.label[i] = GROUND;
        const bare = Math.min(1, Math.max(0, 1.7 * valueNoise(seed + 6, x / 21, y / 21) - 0.55));
        const tufts = 1 + 0.17 * valueNoise(seed + 7, x / 1.9, y / 1.9) + 0.12 * valueNoise(seed + 8, x / 6, y / 6);
        const speck = 0.07 * grain(seed + 9, wx, wy, 0);
        for (let c = 0; c < 3; c++) {
          const base = colours.grass[c] + (colours.soil[c] - colours.grass[c]) * bare;
          canvas.albedo[3 * i + c] = base * (tufts + speck);
        }
      }
    }
  }
}

function paintBuilding(
  plan: CityPlan,
  canvas: Canvas,
  building: Building,
  light: readonly [number, number, number],
): void {
  const { gsd } = plan.style;
  const { alongX, alongY, halfLength, halfWidth, pitch } = building;
  const reach = Math.hypot(halfLength, halfWidth);
  const [x0, x1] = span(building.x, reach, gsd, canvas.left, canvas.side);
  const [y0, y1] = span(building.y, reach, gsd, canvas.top, canvas.side);
  const rise = 1 / Math.hypot(1, pitch);
  for (let py = y0; py <= y1; py++) {
    for (let px = x0; px <= x1; px++) {
      const wx = canvas.left + px;
      const wy = canvas.top + py;
      const dx = (wx + 0.5) * gsd - building.x;
      const dy = (wy + 0.5) * gsd - building.y;
      const a = dx * alongX + dy * alongY;
      const b = dy * alongX - dx * alongY;
      const toEnd = halfLength - Math.abs(a);
      const toSide = halfWidth - Math.abs(b);
      if (toEnd < 0 || toSide < 0) continue;
      const i = py * canvas.side + px;
      const onHip = building.hipped && toEnd < toSide;
      const inward = onHip ? toEnd : toSide;
      canvas.label[i] = BUILDING;
      canvas.height[i] = building.eaves + pitch * inward;
      let tone = 1 + 0.05 * grain(building.key, wx, wy, 0);
      if (pitch > 0) {
        // Outward normal of the roof plane: downhill direction in the plan, tilted by the pitch.
        const sign = Math.sign(onHip ? a : b) || 1;
        const nx = sign * (onHip ? alongX : -alongY);
        const ny = sign * (onHip ? alongY : alongX);
        const cosine = rise * (pitch * (nx * light[0] + ny * light[1]) + light[2]);
        canvas.facing[i] = Math.max(0, cosine) / light[2];
        // Courses of shingle along the eaves, and the lighter ridge.
        tone *= 1 + 0.07 * Math.sin((inward * 2 * Math.PI) / 1.3);
        if (toSide > halfWidth - 0.45 && !onHip) tone *= 1.15;
      } else {
        canvas.facing[i] = 1;
        if (inward < 0.6) tone *= 1.2; // parapet
        const boxed = hash(building.key, Math.floor(a / 3.2), Math.floor(b / 3.2)) % 9 === 0 && inward > 1.5;
        if (boxed) {
          canvas.height[i] += 1.6; // lift house or air conditioner
          tone *= 1.25;
        }
      }
      for (let c = 0; c < 3; c++) canvas.albedo[3 * i + c] = building.colour[c] * tone;
    }
  }
}

function paintTree(plan: CityPlan, canvas: Canvas, tree: Tree, light: readonly [number, number, number]): void {
  const { gsd, colours } = plan.style;
  const [x0, x1] = span(tree.x, tree.radius * 1.25, gsd, canvas.left, canvas.side);
  const [y0, y1] = span(tree.y, tree.radius * 1.25, gsd, canvas.top, canvas.side);
  for (let py = y0; py <= y1; py++) {
    for (let px = x0; px <= x1; px++) {
      const x = (canvas.left + px + 0.5) * gsd;
      const y = (canvas.top + py + 0.5) * gsd;
      const clump = valueNoise(tree.key, x / 1.1, y / 1.1);
      const dx = (x - tree.x) / tree.radius;
      const dy = (y - tree.y) / tree.radius;
      const squared = dx * dx + dy * dy;
      if (squared > 1 + 0.35 * clump) continue;
      const dome = Math.sqrt(Math.max(0.05, 1 - 0.8 * squared));
      const height = tree.height * (0.45 + 0.55 * dome);
      const i = py * canvas.side + px;
      if (height <= canvas.height[i]) continue;
      canvas.label[i] = TREE;
      canvas.height[i] = height + 0.5 * clump;
      const cosine = 0.75 * (dx * light[0] + dy * light[1]) + dome * light[2];
      canvas.facing[i] = Math.max(0.15, cosine / light[2]);
      const tone = tree.tone * (1 + 0.45 * clump);
      for (let c = 0; c < 3; c++) canvas.albedo[3 * i + c] = colours.foliage[c] * tone;
    }
  }
}

/** First and last pixel that an object of this radius (metres) touches, kept inside the canvas. */
function span(centre: number, radius: number, gsd: number, origin: number, side: number): [number, number] {
  return [
    Math.max(0, Math.floor((centre - radius) / gsd) - origin),
    Math.min(side - 1, Math.ceil((centre + radius) / gsd) - origin),
  ];
}

/** Reflected light per pixel: sky everywhere, sun where no higher thing stands between. */
function illuminate(
  canvas: Canvas,
  size: number,
  light: readonly [number, number, number],
  gsd: number,
  reach: number,
): void {
  const { side, margin, height, facing, albedo, radiance } = canvas;
  const flat = Math.hypot(light[0], light[1]);
  const climb = (light[2] / flat) * gsd; // metres the ray gains a pixel
  const ray = Int32Array.from({ length: reach }, (_, step) => {
    const far = (step + 1) / flat;
    return Math.round(far * light[1]) * side + Math.round(far * light[0]);
  });
  const count = size + 2 * APRON;
  for (let y = 0; y < count; y++) {
    for (let x = 0; x < count; x++) {
      const i = (y + margin - APRON) * side + x + margin - APRON;
      let above = height[i] + 0.4;
      let lit = true;
      for (let step = 0; step < reach && lit; step++) {
        above += climb;
        if (above > TALLEST) break;
        lit = height[i + ray[step]] <= above;
      }
      const direct = lit ? facing[i] : 0;
      for (let c = 0; c < 3; c++) {
        radiance[3 * (y * count + x) + c] = albedo[3 * i + c] * (SKY[c] + (1 - SKY[c]) * direct);
      }
    }
  }
}

/** What the sensor makes of the light: haze, point spread (5x5 separable Gaussian), gain, offset and gamma per channel, read noise, 8 bits. */
function expose(plan: CityPlan, canvas: Canvas, column: number, row: number, size: number): Uint8Array {
  const { sensor, haze, gsd } = plan.style;
  const { radiance, blurred } = canvas;
  const count = size + 2 * APRON;
  const taps = [-2, -1, 0, 1, 2].map((offset) => Math.exp((-offset * offset) / (2 * sensor.blur * sensor.blur)));
  const total = taps.reduce((sum, tap) => sum + tap, 0);
  const [far, near, centre] = [taps[0] / total, taps[1] / total, taps[2] / total];
  for (let y = 0; y < count; y++) {
    for (let x = 0; x < size * 3; x++) {
      const i = y * count * 3 + x;
      blurred[y * size * 3 + x] =
        far * (radiance[i] + radiance[i + 12]) + near * (radiance[i + 3] + radiance[i + 9]) + centre * radiance[i + 6];
    }
  }
  const response = responseCurve(sensor.gamma);
  const image = new Uint8Array(size * size * 3);
  const pitch = size * 3;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const place = valueNoise(plan.seed + 12, ((column + x) * gsd) / haze.length, ((row + y) * gsd) / haze.length);
      const clear = Math.exp(-Math.max(0, haze.depth + haze.swing * place));
      for (let c = 0; c < 3; c++) {
        const i = y * pitch + 3 * x + c;
        const ground =
          far * (blurred[i] + blurred[i + 4 * pitch]) +
          near * (blurred[i + pitch] + blurred[i + 3 * pitch]) +
          centre * blurred[i + 2 * pitch];
        const light = ground * clear + haze.airlight[c] * (1 - clear);
        const level = sensor.offset[c] + sensor.gain[c] * response[Math.min(CURVE_STEPS, (light * CURVE_STEPS) | 0)];
        const noisy = level + sensor.noise * grain(plan.seed + 77, column + x, row + y, c);
        image[i] = Math.min(255, Math.max(0, Math.round(255 * noisy)));
      }
    }
  }
  return image;
}

/** Steps of the tabulated response between no light and 1: finer than 8 bits at the curve's steep end. */
const CURVE_STEPS = 4096;
const curves = new Map<number, Float32Array>();

/** light^gamma over 0..1 in CURVE_STEPS steps; a power per channel of every pixel would take half of a tile's time. */
function responseCurve(gamma: number): Float32Array {
  let curve = curves.get(gamma);
  if (!curve) {
    curve = Float32Array.from({ length: CURVE_STEPS + 1 }, (_, step) => (step / CURVE_STEPS) ** gamma);
    curves.set(gamma, curve);
  }
  return curve;
}
