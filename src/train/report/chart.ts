import { escapeHTML, renderKey, seriesColour } from "./html.js";

/** A line of a chart; `y` may be missing (NaN) at some x. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}
export interface Chart {
  readonly title: string;
  readonly x: string;
  readonly series: readonly Series[];
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [480, 240, 48, 8, 8, 32];
/** A line of more points than this looks the same and only makes the file larger. */
const MAX_POINTS = 240;

export function renderChart({ title, x: xName, series }: Chart): string {
  const drawn = series.map((s) => ({
    name: s.name,
    points: thin(s.points.filter(([x, y]) => Number.isFinite(x + y))),
  }));
  const all = drawn.flatMap((s) => s.points);
  if (all.length === 0) return "";
  const [xLow, xHigh] = extent(all.map(([x]) => x));
  const yTicks = ticks(...extent(all.map(([, y]) => y)), 5);
  const [yLow, yHigh] = [yTicks[0]!, yTicks.at(-1)!];
  const px = (x: number) => LEFT + ((x - xLow) / (xHigh - xLow)) * (WIDTH - LEFT - RIGHT);
  const py = (y: number) => HEIGHT - BOTTOM - ((y - yLow) / (yHigh - yLow)) * (HEIGHT - TOP - BOTTOM);
  const grid = yTicks.map(
    (
      y,
    ) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(y).toFixed(1)}" y2="${py(y).toFixed(1)}" stroke="var(--rule)"/>
<text x="${LEFT - 6}" y="${(py(y) + 4).toFixed(1)}" text-anchor="end">${formatTick(y)}</text>`,
  );
  const marks = ticks(xLow, xHigh, 5)
    .filter((x) => x >= xLow && x <= xHigh)
    .map(
      (x) => `<text x="${px(x).toFixed(1)}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${formatTick(x)}</text>`,
    );
  const lines = drawn.map(({ points }, i) => {
    if (points.length === 1) {
      const [x, y] = points[0]!;
      return `<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3" fill="${seriesColour(i)}"/>`;
    }
    const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ");
    return `<polyline fill="none" stroke="${seriesColour(i)}" stroke-width="1.75" stroke-linejoin="round" points="${path}"/>`;
  });
  const axis = `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 3}" text-anchor="middle">${escapeHTML(xName)}</text>`;
  const key = renderKey(drawn.map(({ name }, i) => ({ name, colour: seriesColour(i) })));
  return `<section><h3>${escapeHTML(title)}</h3><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHTML(title)}">
${grid.join("")}${marks.join("")}${axis}${lines.join("")}</svg>${key}</section>`;
}

/** Means of equal runs of points. */
function thin(points: Series["points"]): Series["points"] {
  if (points.length <= MAX_POINTS) return points;
  const run = points.length / MAX_POINTS;
  return Array.from({ length: MAX_POINTS }, (_, i) => {
    const part = points.slice(Math.floor(i * run), Math.floor((i + 1) * run));
    const mean = (axis: 0 | 1) => part.reduce((total, p) => total + p[axis], 0) / part.length;
    return [mean(0), mean(1)] as const;
  });
}

function extent(numbers: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of numbers) [low, high] = [Math.min(low, v), Math.max(high, v)];
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

/** Round numbers, 1, 2 or 5 times a power of ten apart, from below `low` to above `high`. */
function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const [first, last] = [Math.floor(low / step), Math.ceil(high / step)];
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

const formatTick = (value: number): string => String(Number(value.toPrecision(6)));
