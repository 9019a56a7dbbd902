import { readdir, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { DataError } from "../../errors.js";

/** More entries than any of the archives has. */
const MAX_ENTRIES = 200_000;

/**
 * All files below a folder, as paths from it with "/", sorted by code unit.
 * @throws DataError where it is no folder, or holds nothing but zip archives: they are to be unpacked first.
 */
export async function filesBelow(root: string): Promise<string[]> {
  const found = await stat(root).catch(() => null);
  if (!found?.isDirectory()) throw new DataError(root, "no such folder");
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  if (entries.length > MAX_ENTRIES) throw new DataError(root, `holds more than ${MAX_ENTRIES} entries`);
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .sort();
  return files;
}

/** @throws DataError that names the archive to unpack, where a file that is wanted may be in one. */
export function missing(root: string, files: readonly string[], what: string): DataError {
  const zips = files.filter((file) => /\.(zip|7z|rar|tar(\.gz)?)$/i.test(file));
  const hint = zips.length > 0 ? `; unpack ${zips.slice(0, 3).join(", ")} first` : "";
  return new DataError(root, `has no ${what}${hint}`);
}
