/** An error stops or spoils a training run, a warning may, a note is worth knowing. */
export type Severity = "error" | "warning" | "note";

/** One thing found about a data set. */
export interface Finding {
  readonly severity: Severity;
  /** What kind of thing, in a word or two that do not change: `label-values`. */
  readonly code: string;
  /** The file or folder it is about; null where it is about the whole set or the configuration. */
  readonly file: string | null;
  /** One line: what is the case and, where there is one, the way out. */
  readonly message: string;
}

/** Collects findings in the order in which they are made. */
export class Findings {
  readonly list: Finding[] = [];

  error(code: string, file: string | null, message: string): void {
    this.list.push({ severity: "error", code, file, message });
  }
  warn(code: string, file: string | null, message: string): void {
    this.list.push({ severity: "warning", code, file, message });
  }
  note(code: string, file: string | null, message: string): void {
    this.list.push({ severity: "note", code, file, message });
  }
}

/** `0.0123` as `1.2 %`; shares that are not 0 never read as 0. */
export function percent(share: number): string {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  if (share < 1 && share > 0.9995) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}
