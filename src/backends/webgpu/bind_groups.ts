import type { View } from "../backend.js";
import { type Memory, offsetOf, sizeOfView, wholeWords } from "./memory.js";
import { PARAMS_STRIDE } from "./params.js";
import type { Layout } from "./pipelines.js";

/** Bind groups pin nothing that the pool does not hold anyway, but their number must not grow for ever. */
const MOST = 32768;

interface Entry {
  readonly group: GPUBindGroup;
  readonly layout: Layout;
  /** Buffer, offset and size, for each binding. */
  readonly bound: readonly number[];
}

/** Bind groups by what they bind. Making one takes ten times as long as everything else of a dispatch. */
export class BindGroups {
  /** By a hash: where two have the same, the later one takes the place. */
  #made = new Map<number, Entry>();

  /** @param params the uniform buffer, which dispatches give an offset into */
  constructor(
    readonly device: GPUDevice,
    readonly params: GPUBuffer,
  ) {}

  of(layout: Layout, views: readonly View[], memories: readonly Memory[]): GPUBindGroup {
    let hash = layout.id;
    for (let i = 0; i < views.length; i++) {
      const [view, memory] = [views[i]!, memories[i]!];
      hash = Math.imul(hash ^ memory.held.id, 0x9e3779b1) ^ (hash >>> 15);
      hash = Math.imul(hash ^ view.offset, 0x85ebca6b) ^ view.size;
    }
    const found = this.#made.get(hash);
    if (found && found.layout === layout && binds(found.bound, views, memories)) return found.group;
    const made = this.#make(layout, views, memories);
    if (this.#made.size >= MOST) this.#made.clear();
    this.#made.set(hash, made);
    return made.group;
  }

  clear(): void {
    this.#made.clear();
  }

  #make(layout: Layout, views: readonly View[], memories: readonly Memory[]): Entry {
    const bound: number[] = [];
    const entries: GPUBindGroupEntry[] = views.map((view, binding) => {
      const memory = memories[binding]!;
      const [offset, bytes] = [offsetOf(view, memory), sizeOfView(view, memory)];
      bound.push(memory.held.id, offset, bytes);
      return { binding, resource: { buffer: memory.held.buffer, offset, size: Math.max(4, wholeWords(bytes)) } };
    });
    entries.push({ binding: views.length, resource: { buffer: this.params, size: PARAMS_STRIDE } });
    return { group: this.device.createBindGroup({ layout: layout.group, entries }), layout, bound };
  }
}

function binds(bound: readonly number[], views: readonly View[], memories: readonly Memory[]): boolean {
  for (let i = 0; i < views.length; i++) {
    const [view, memory] = [views[i]!, memories[i]!];
    if (bound[3 * i] !== memory.held.id) return false;
    if (bound[3 * i + 1] !== offsetOf(view, memory) || bound[3 * i + 2] !== sizeOfView(view, memory)) return false;
  }
  return true;
}
