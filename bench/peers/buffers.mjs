// Counts the bytes of WebGPU buffers that the engine of this process holds, whichever it is: it calls Dawn through `webgpu`.
import { globals } from "webgpu";

const { GPUDevice, GPUBuffer } = globals;
/** @type {WeakMap<object, { size: number, device: object }>} Of buffers that are alive. */
const alive = new WeakMap();
/** @type {WeakMap<object, number>} Bytes by device, all of which go with it. */
const held = new WeakMap();
let [live, peak] = [0, 0];

/** @param {object} device @param {number} bytes */
function count(device, bytes) {
  held.set(device, (held.get(device) ?? 0) + bytes);
  live += bytes;
  peak = Math.max(peak, live);
}

const { createBuffer, destroy: destroyDevice } = GPUDevice.prototype;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = createBuffer.call(this, descriptor);
  alive.set(buffer, { size: descriptor.size, device: this });
  count(this, descriptor.size);
  return buffer;
};
GPUDevice.prototype.destroy = function () {
  count(this, -(held.get(this) ?? 0));
  return destroyDevice.call(this);
};
const { destroy: destroyBuffer } = GPUBuffer.prototype;
GPUBuffer.prototype.destroy = function () {
  const known = alive.get(this);
  if (known && (held.get(known.device) ?? 0) > 0) count(known.device, -known.size);
  alive.delete(this);
  return destroyBuffer.call(this);
};

/** Most bytes at once since `forgetPeak`. A buffer that is dropped without being destroyed counts on. */
export const peakBytes = () => peak;
export function forgetPeak() {
  peak = live;
}
