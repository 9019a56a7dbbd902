import { DeviceError } from "../../errors.js";

/** Dawn dies with its instance: held here for as long as the process may use a device. */
const instances: GPU[] = [];

/**
 * The WebGPU entry point: the browser's, or Dawn through the npm package `webgpu` in Node.
 * @param options Dawn's, such as `["backend=null"]`; Node only.
 * @throws DeviceError where there is neither.
 */
export async function findGPU(options: readonly string[] = []): Promise<GPU> {
  const inBrowser = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (inBrowser) return inBrowser;
  const name = "webgpu"; // a variable, so that bundlers for the browser leave it alone
  let dawn: { create(options: readonly string[]): GPU };
  try {
    dawn = await import(/* @vite-ignore */ name);
  } catch (cause) {
    throw new DeviceError(
      "webgpu",
      "unavailable",
      "no navigator.gpu, and the npm package webgpu did not load",
      {},
      { cause },
    );
  }
  const gpu = dawn.create(options);
  instances.push(gpu);
  return gpu;
}

/** Lets Node exit: call when the last device is gone. */
export function releaseGPU(gpu: GPU): void {
  const at = instances.indexOf(gpu);
  if (at >= 0) instances.splice(at, 1);
}

/** True where the adapter is a CPU in disguise (Mesa's lavapipe, SwiftShader, WARP). */
export const isSoftware = ({ info }: GPUAdapter): boolean =>
  info.isFallbackAdapter ||
  /llvmpipe|lavapipe|swiftshader|warp|basic render/i.test(`${info.description} ${info.device}`);

export const describeAdapter = ({ info }: GPUAdapter): string =>
  [info.description || info.device || "WebGPU adapter", info.vendor, info.architecture].filter(Boolean).join(", ");
