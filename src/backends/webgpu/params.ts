/** Bytes from the parameters of one dispatch to the next's: what dynamic offsets of uniform buffers are multiples of everywhere. */
export const PARAMS_STRIDE = 256;

// GPUBufferUsage is a global in browsers only.
const UNIFORM_COPY_DST = 0x40 | 0x08;

export const paramsBuffer = (device: GPUDevice, dispatches: number): GPUBuffer =>
  device.createBuffer({ label: "params", size: PARAMS_STRIDE * Math.max(1, dispatches), usage: UNIFORM_COPY_DST });
