// Dawn where libraries for browsers look for it. To be imported before them.
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);
export const gpu = create([]);
Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: "Chrome" } });

/** @param {GPUAdapterInfo} info */
export const describe = (info) => [info.description || info.device, info.vendor].filter(Boolean).join(", ");
