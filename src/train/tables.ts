/** A table of texts: what reports show and papers print. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  /** First cell: the row's name. As many cells as columns. */
  readonly rows: readonly (readonly string[])[];
  /** What a reader must know to compare the numbers; below the title. */
  readonly notes?: readonly string[];
}

/** For a terminal: aligned columns, the first to the left. */
export function textTable({ title, columns, rows, notes = [] }: Table): string {
  const widths = columns.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]) =>
    `  ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("   ")}`.trimEnd();
  return [title, ...notes.map((note) => `  ${note}`), line(columns), ...rows.map(line), ""].join("\n");
}

/** GitHub's Markdown; numbers to the right. */
export function markdownTable({ title, columns, rows, notes = [] }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escapeMarkdown).join(" | ")} |`;
  return [
    `**${escapeMarkdown(title)}**`,
    "",
    ...notes.flatMap((note) => [escapeMarkdown(note), ""]),
    line(columns),
    `| ${columns.map((_, i) => (i === 0 ? "---" : "---:")).join(" | ")} |`,
    ...rows.map(line),
    "",
  ].join("\n");
}

/** RFC 4180: a header, comma-separated, lines ended by CR LF; the title and notes are not in it. */
export function csvTable({ columns, rows }: Table): string {
  const cell = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [columns, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** A LaTeX table for the package booktabs; title and notes make the caption. */
export function latexTable({ title, columns, rows, notes = [] }: Table): string {
  const line = (cells: readonly string[]) => `    ${cells.map(escapeLatex).join(" & ")} \\\\`;
  return [
    "\\begin{table}",
    "  \\centering",
    `  \\caption{${[title, ...notes].map((text) => escapeLatex(asSentence(text))).join(" ")}}`,
    `  \\begin{tabular}{l${"r".repeat(columns.length - 1)}}`,
    "    \\toprule",
    line(columns),
    "    \\midrule",
    ...rows.map(line),
    "    \\bottomrule",
    "  \\end{tabular}",
    "\\end{table}",
    "",
  ].join("\n");
}

const asSentence = (text: string): string => (/[.:;!?]$/.test(text) ? text : `${text}.`);

/** Characters that would begin a cell, emphasis, code, a link or HTML. */
const escapeMarkdown = (text: string): string => text.replace(/[\\|*_`[\]<>]/g, "\\$&").replace(/\s+/g, " ");

const LATEX: Readonly<Record<string, string>> = {
  "\\": "\\textbackslash{}",
  "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}",
  "<": "\\textless{}",
  ">": "\\textgreater{}",
  "|": "\\textbar{}",
  '"': "\\textquotedbl{}",
  "±": "$\\pm$",
  "×": "$\\times$",
  λ: "$\\lambda$",
  "−": "$-$",
  "–": "--",
  "°": "$^\\circ$",
};

/** As text of a document in UTF-8; the signs that reports use besides ASCII need no package. */
const escapeLatex = (text: string): string =>
  text.replace(/[\\~^<>|"±×λ−–°]|[&%$#_{}]/g, (c) => LATEX[c] ?? `\\${c}`).replace(/\s+/g, " ");
