/** Names that other programs give to entries here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  learningrate: "optim.lr",
  batchsize: "batch",
  cropsize: "crop",
  imagesize: "crop",
  iterations: "steps",
  maxsteps: "steps",
  numsteps: "steps",
  encoder: "model.backbone",
};

/**
 * The entry that was probably meant by a dotted path that is none; null where nothing is close. The last name alone
 * counts, too, where it is that of one entry: `lr` is `optim.lr`.
 */
export function likelyEntry(path: string, entries: readonly string[]): string | null {
  const plain = (text: string) => text.toLowerCase().replace(/[_-]/g, "");
  const last = (text: string) => text.split(".").at(-1)!;
  const elsewhere = ELSEWHERE[plain(last(path))];
  if (elsewhere !== undefined && entries.includes(elsewhere)) return elsewhere;
  const ranked = entries
    .map((entry) => ({ entry, distance: editDistance(plain(path), plain(entry)) }))
    .sort((a, b) => a.distance - b.distance);
  const [nearest] = ranked;
  if (nearest && nearest.distance <= Math.max(1, 0.35 * Math.max(path.length, nearest.entry.length)))
    return nearest.entry;
  const sameName = entries.filter((entry) => plain(last(entry)) === plain(last(path)));
  return sameName.length === 1 ? sameName[0]! : null;
}

/** Letters to insert, delete, replace, or exchange with their neighbour (Damerau 1964). */
export function editDistance(a: string, b: string): number {
  let [older, old]: number[][] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = old![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(replaced, old![j]! + 1, row[j - 1]! + 1);
      const exchanged = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (exchanged) row[j] = Math.min(row[j]!, older![j - 2]! + 1);
    }
    [older, old] = [old!, row];
  }
  return old![b.length]!;
}
