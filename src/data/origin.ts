import type { Dataset } from "./dataset.js";
import { FolderDataset, type FolderOptions } from "./folder.js";
import { type ProceduralOptions, proceduralDataset } from "./procedural.js";

/** How a data set can be opened once more, in another thread. Plain data. */
export type DatasetOrigin =
  | { readonly kind: "folder"; readonly root: string; readonly options: FolderOptions }
  | { readonly kind: "procedural"; readonly options: ProceduralOptions };

/** @throws DataError as `FolderDataset.open`. */
export async function reopen(origin: DatasetOrigin): Promise<Dataset> {
  return origin.kind === "folder" ? FolderDataset.open(origin.root, origin.options) : proceduralDataset(origin.options);
}
