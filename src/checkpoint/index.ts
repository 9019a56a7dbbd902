export { syncFolder, writeAtomic } from "./atomic.js";
export {
  type LoadReport,
  loadTensors,
  readSafetensors,
  saveTensors,
  writeSafetensors,
} from "./file.js";
export {
  exportPyTorch,
  type ImportOptions,
  type ImportReport,
  importPyTorch,
  type PyTorchArray,
  type PyTorchSource,
  type PyTorchTarget,
  pyTorchName,
} from "./import_pytorch.js";
export {
  loadPretrained,
  type PretrainedPart,
  type PretrainedReport,
  type PretrainedSource,
  savePretrained,
} from "./pretrained.js";
export { decode, encode, type FileData, type FileDType, type FileTensor, type Safetensors } from "./safetensors.js";
