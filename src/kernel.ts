/** The contract one kernel keeps on every backend: names, order and parameters. Nothing else states them. */
export type ParamSchema = Readonly<Record<string, "u32" | "i32" | "f32">>;
export type ParamsOf<S extends ParamSchema> = { readonly [K in keyof S]: number };
export type Groups = readonly [x: number, y: number, z: number];

export interface Kernel<
  S extends ParamSchema = ParamSchema,
  I extends readonly string[] = readonly string[],
  O extends readonly string[] = readonly string[],
> {
  /** `op.verb_noun`: shaders/op/*.wgsl holds the entry point verb_noun, backends/reference/op.ts the function. */
  readonly name: `${string}.${string}`;
  /** Read-only buffers, in binding order. */
  readonly inputs: I;
  /** Buffers written (or updated in place), bound after the inputs. */
  readonly outputs: O;
  /** Four bytes each, in this order: a WGSL uniform struct and a C struct have the same layout. */
  readonly params: S;
  /** Workgroups to launch on WebGPU; native launchers work out their own grid. */
  readonly groups: (params: ParamsOf<S>) => Groups;
  /**
   * How to split the kernel where a buffer exceeds the device's binding limit: `count` is the parameter that holds the
   * number of independent items, `buffers` the inputs and outputs made of that many equal parts (the rest stay whole).
   */
  readonly batch?: { readonly count: keyof S & string; readonly buffers: readonly (I[number] | O[number])[] };
}

// biome-ignore lint/suspicious/noExplicitAny: a kernel of unknown schema must accept any parameter record
export type AnyKernel = Kernel<any, any, any>;

/** Every kernel that has been defined, by name. The contract test walks it. */
export const kernels = new Map<string, AnyKernel>();

export function defineKernel<
  const S extends ParamSchema,
  const I extends readonly string[],
  const O extends readonly string[],
>(kernel: Kernel<S, I, O>): Kernel<S, I, O> {
  if (kernels.has(kernel.name)) throw new Error(`kernel ${kernel.name} is defined twice`);
  kernels.set(kernel.name, kernel);
  return kernel;
}

/** WebGPU allows 65,535 workgroups in each dimension. */
export const MAX_GROUPS = 65535;

/**
 * A grid of one thread per item that folds into y where x alone would exceed the limit.
 * The shader rebuilds the index as `id.x + id.y * num_workgroups.x * perGroup` and compares it with the count.
 */
export function linear(count: number, perGroup = 256): Groups {
  const groups = Math.max(1, Math.ceil(count / perGroup));
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, 1];
}

/** The parameter bytes, in schema order, little endian. */
export function packParams(
  kernel: AnyKernel,
  params: Readonly<Record<string, number>>,
  view: DataView,
  at: number,
): number {
  for (const name in kernel.params) {
    const value = params[name]!;
    const type = kernel.params[name];
    if (type === "f32") view.setFloat32(at, value, true);
    else if (type === "i32") view.setInt32(at, value, true);
    else view.setUint32(at, value, true);
    at += 4;
  }
  return at;
}
