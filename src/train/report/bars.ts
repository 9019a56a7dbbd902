import { escapeHTML, renderKey, seriesColour } from "./html.js";

/** Bars from 0 to 1, in groups with one bar a series. */
export interface BarChart {
  readonly title: string;
  readonly groups: readonly string[];
  /** One value a group; null is drawn as a dash. */
  readonly series: readonly { readonly name: string; readonly values: readonly (number | null)[] }[];
}

/** Pixels of the SVG's own units. */
const [WIDTH, BAR, GAP, RIGHT, TOP, AXIS] = [480, 14, 10, 44, 4, 20];

/** Horizontal bars with their values in percent, group by group. */
export function renderBars({ title, groups, series }: BarChart): string {
  if (groups.length === 0 || series.length === 0) return "";
  // Some seven units a letter of 11 pixels, and half of the width at most; what is longer is cut short.
  const longest = Math.max(...groups.map((name) => name.length));
  const left = Math.min(WIDTH / 2, 8 + 7 * longest);
  const step = series.length * BAR + GAP;
  const height = TOP + groups.length * step + AXIS;
  const px = (value: number) => left + value * (WIDTH - RIGHT - left);
  const lines = [0, 0.25, 0.5, 0.75, 1].map((value) => {
    const x = px(value).toFixed(1);
    return `<line x1="${x}" x2="${x}" y1="${TOP}" y2="${height - AXIS}" stroke="var(--rule)"/>
<text x="${x}" y="${height - 5}" text-anchor="middle">${100 * value}</text>`;
  });
  const bars = groups.map((group, g) => {
    const top = TOP + g * step + GAP / 2;
    const name = group.length > (left - 8) / 7 ? `${group.slice(0, Math.floor((left - 8) / 7) - 1)}…` : group;
    const each = series.map(({ name, values }, s) => {
      const value = values[g] ?? null;
      const y = top + s * BAR;
      const shown = value === null ? "–" : (100 * value).toFixed(1);
      const end = px(value ?? 0);
      return `<g><title>${escapeHTML(`${group}, ${name}: ${shown}`)}</title>
<rect x="${left}" y="${y + 1}" width="${(end - left).toFixed(1)}" height="${BAR - 2}" fill="${seriesColour(s)}"/>
<text x="${(end + 4).toFixed(1)}" y="${y + BAR - 3}">${shown}</text></g>`;
    });
    const middle = top + (series.length * BAR) / 2 + 4;
    return `<text x="${left - 6}" y="${middle}" text-anchor="end">${escapeHTML(name)}</text>${each.join("")}`;
  });
  const key = renderKey(series.map(({ name }, s) => ({ name, colour: seriesColour(s) })));
  return `<section><h3>${escapeHTML(title)}</h3><svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeHTML(title)}">
${lines.join("")}${bars.join("")}</svg>${key}</section>`;
}
