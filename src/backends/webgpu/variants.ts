import type { Groups } from "../../kernel.js";

/** What of an adapter decides which kernels suit it. */
export interface Traits {
  /** A CPU in disguise: loads through addresses that all lanes share are cheap there, barriers dear. */
  readonly software: boolean;
  readonly subgroups: boolean;
  readonly f16: boolean;
  /** Workgroup memory, bytes. */
  readonly workgroupBytes: number;
}
export type KernelParams = Readonly<Record<string, number>>;

/**
 * Another shader for a kernel of the contract: same bindings, same parameters, same results up to rounding. Its file is
 * shaders/op/verb_noun.name.wgsl, with the kernel's own entry point.
 */
export interface Variant {
  readonly name: string;
  /** The kind of adapter on which it is a good guess; on the other kind only the tuner tries it. Default: both. */
  readonly prefers?: "gpu" | "software";
  /** May it run with these parameters on such an adapter? */
  readonly fits: (params: KernelParams, traits: Traits) => boolean;
  readonly groups: (params: KernelParams) => Groups;
  /** Values of the shader's `override`s. Each set of values is compiled by itself: only what pays belongs here. */
  readonly constants?: (params: KernelParams) => Readonly<Record<string, number>>;
}

/** By kernel, best guess first. The kernel's plain shader always fits, and is better than what prefers another adapter. */
export const variants: Readonly<Record<string, readonly Variant[]>> = {};

/** What can run a kernel, best guess first; null is its plain shader. */
export function candidatesFor(kernel: string, params: KernelParams, traits: Traits): (Variant | null)[] {
  const fitting = (variants[kernel] ?? []).filter(({ fits }) => fits(params, traits));
  const kind = traits.software ? "software" : "gpu";
  const good = fitting.filter(({ prefers }) => prefers === undefined || prefers === kind);
  return [...good, null, ...fitting.filter((variant) => !good.includes(variant))];
}
