// Tables for a terminal: the first column to the left, numbers to the right.

/** @param {readonly string[]} head @param {readonly (readonly unknown[])[]} rows @returns {string[]} lines */
export function table(head, rows) {
  const cells = [head, ...rows].map((row) => row.map(text));
  const widths = head.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
  return cells.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join("  ")
      .trimEnd(),
  );
}

/** Three digits that matter. */
function text(/** @type {unknown} */ value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return `${value}`;
  if (!Number.isFinite(value) || Number.isInteger(value)) return `${value}`;
  const size = Math.abs(value);
  if (size < 1e-2) return value.toExponential(1);
  return value.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0);
}
