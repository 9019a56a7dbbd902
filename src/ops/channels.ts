import { defineKernel, type Groups, type Kernel, MAX_GROUPS, type ParamSchema, type ParamsOf } from "../kernel.js";

/**
 * Defines a kernel over `[…, channels]` twice: `op.verb`, whose threads read single channels, and `op.verb_vec4`, whose
 * threads read four at once. `groups` gets the number of loads that cover the channels ("lanes").
 * @returns the form to run for a channel count: vec4 where it is a multiple of four.
 */
export function channelKernel<
  const S extends ParamSchema & { readonly channels: "u32" },
  const I extends readonly string[],
  const O extends readonly string[],
>(
  contract: Omit<Kernel<S, I, O>, "groups"> & { readonly groups: (params: ParamsOf<S>, lanes: number) => Groups },
): (channels: number) => Kernel<S, I, O> {
  const scalar = defineKernel<S, I, O>({ ...contract, groups: (p) => contract.groups(p, p.channels) });
  const vec4 = defineKernel<S, I, O>({
    ...contract,
    name: `${contract.name}_vec4`,
    groups: (p) => contract.groups(p, p.channels / 4),
  });
  return (channels) => (channels % 4 === 0 ? vec4 : scalar);
}

/**
 * A grid for maps of pixels: x runs along one row (pixels and channels), y and z over the rows of all images. So the
 * division that finds a pixel's row is the same for a whole workgroup. Workgroups are 64 x 1 x 1; the shader rebuilds
 * the row as `id.y + id.z * num_workgroups.y`.
 */
export function rowGroups(rowLength: number, rows: number): Groups {
  const z = Math.max(1, Math.ceil(rows / MAX_GROUPS));
  return [Math.max(1, Math.ceil(rowLength / 64)), Math.max(1, Math.ceil(rows / z)), z];
}
