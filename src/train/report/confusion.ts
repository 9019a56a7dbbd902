import { escapeHTML } from "./html.js";

/** Rows: truth, columns: prediction, pixels. */
export interface ConfusionTable {
  readonly title: string;
  readonly classes: readonly string[];
  readonly counts: readonly (readonly number[])[];
}

/** Shares of rows by colour and number, and how many pixels a row has. */
export function renderConfusion({ title, classes, counts }: ConfusionTable): string {
  const head = ["", ...classes, "pixels"].map((c) => `<th scope="col">${escapeHTML(c)}</th>`).join("");
  const body = counts.map((row, i) => {
    const total = row.reduce((a, b) => a + b, 0);
    const cells = row.map((count) => {
      const share = total > 0 ? count / total : 0;
      const shown = total > 0 ? (100 * share).toFixed(1) : "–";
      return `<td style="background:rgb(var(--heat) / ${(0.75 * share).toFixed(3)})" title="${count} pixels">${shown}</td>`;
    });
    const name = escapeHTML(classes[i] ?? String(i));
    return `<tr><th scope="row">${name}</th>${cells.join("")}<td>${total.toLocaleString("en")}</td></tr>`;
  });
  return `<section><h3>${escapeHTML(title)}</h3><div class="scroll"><table class="confusion"><thead><tr>${head}</tr></thead>
<tbody>${body.join("")}</tbody></table></div></section>`;
}
