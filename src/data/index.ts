export { type AugmentOptions, NO_AUGMENTATION } from "./augment.js";
export {
  cached,
  type Dataset,
  type Domain,
  type Split,
  type Tile,
  type TileSamples,
  type TileSource,
  type TileType,
} from "./dataset.js";
export { FolderDataset, type FolderOptions } from "./folder.js";
export { type Batch, BatchLoader, type LoaderOptions } from "./loader.js";
export {
  type ChannelStatistics,
  type DomainStatistics,
  IMAGENET,
  measure,
  type Normalisation,
  statisticsOf,
} from "./normalise.js";
export { encodePNG } from "./png.js";
export { type ProceduralOptions, proceduralDataset } from "./procedural.js";
export { twoCities } from "./two_cities.js";
