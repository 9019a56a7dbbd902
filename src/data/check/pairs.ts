import { readdir, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import type { Findings } from "./finding.js";

const EXTENSIONS = new Set([".png", ".jpg", ".jpeg", ".tif", ".tiff"]);

/** An image and its label, as far as they are there. */
export interface FoundPair {
  readonly stem: string;
  readonly image: string;
  /** Null in a split whose labels are not read, and where there is none. */
  readonly label: string | null;
}

/**
 * Pairs the files of one split and says what does not pair, without stopping there.
 * @param labelled whether the split's labels are read at all.
 */
export async function findPairs(folder: string, labelled: boolean, findings: Findings): Promise<FoundPair[]> {
  const images = await listStems(join(folder, "images"), findings);
  if (images?.size === 0) {
    findings.error("empty-split", join(folder, "images"), "holds no PNG, JPEG or TIFF file");
  }
  const labels = labelled ? await listStems(join(folder, "labels"), findings) : null;
  for (const [stem, file] of images ?? []) {
    if (labels && !labels.has(stem)) {
      findings.error("image-without-label", file, `has no label of the same name in ${join(folder, "labels")}`);
    }
  }
  for (const [stem, file] of labels ?? []) {
    if (images && !images.has(stem)) {
      findings.error("label-without-image", file, `has no image of the same name in ${join(folder, "images")}`);
    }
  }
  return [...(images ?? [])].map(([stem, image]) => ({ stem, image, label: labels?.get(stem) ?? null }));
}

/** Stem to path, sorted by code unit; null where there is no such folder, which is then a finding. */
async function listStems(folder: string, findings: Findings): Promise<Map<string, string> | null> {
  const names = await readdir(folder).catch(() => null);
  if (names === null) {
    findings.error("no-folder", folder, "no such folder");
    return null;
  }
  const stems = new Map<string, string>();
  const others: string[] = [];
  for (const name of names.sort()) {
    if (name.startsWith(".")) continue;
    const extension = extname(name);
    if (!EXTENSIONS.has(extension.toLowerCase())) {
      others.push(name);
      continue;
    }
    const stem = basename(name, extension);
    const other = stems.get(stem);
    if (other) findings.error("duplicate-stem", join(folder, name), `shares its stem with ${basename(other)}`);
    else stems.set(stem, join(folder, name));
  }
  if (others.length > 0) {
    const some = others.slice(0, 3).join(", ");
    findings.note("not-read", folder, `${others.length} files are neither PNG, JPEG nor TIFF by name: ${some}`);
  }
  return stems;
}

export const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
