import { DeviceError, MissingKernelError } from "../../errors.js";
import type { AnyKernel } from "../../kernel.js";
import { type ShaderFile, shaderFiles, shaderOf } from "./shaders.gen.js";
import type { KernelParams, Variant } from "./variants.js";

const COMPUTE = 0x4; // GPUShaderStage is a global in browsers only

/** What kernels with as many inputs, outputs and parameters have in common. */
export interface Layout {
  readonly id: number;
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}
export interface Pipeline {
  readonly layout: Layout;
  readonly pipeline: GPUComputePipeline;
}

/** Takes an error scope that is still open, and how to report what it finds. */
export type Check = (scope: Promise<GPUError | null>, describe: (error: GPUError) => DeviceError) => void;

type Constants = Readonly<Record<string, number>>;
const NO_CONSTANTS: Constants = {};

/**
 * The pipelines of kernels and their variants, made when they are first asked for, against the layout that the kernel's
 * contract gives.
 */
export class Pipelines {
  readonly #layouts = new Map<string, Layout>();
  readonly #modules = new Map<string, GPUShaderModule>();
  /** Of plain shaders: found by the kernel itself, which is faster than by a name. */
  readonly #full = new Map<AnyKernel, Pipeline>();
  readonly #half = new Map<AnyKernel, Pipeline>();
  readonly #variants = new Map<string, Pipeline>();

  constructor(
    readonly device: GPUDevice,
    readonly check: Check,
  ) {}

  /** @throws MissingKernelError; a shader that is wrong is reported to `check`. */
  of(kernel: AnyKernel, half: boolean, variant: Variant | null, params: KernelParams): Pipeline {
    return variant?.constants
      ? this.#withConstants(kernel, half, variant, variant.constants(params))
      : this.withDefaults(kernel, half, variant);
  }

  /** With overrides as the shader has them. @throws as `of` */
  withDefaults(kernel: AnyKernel, half: boolean, variant: Variant | null): Pipeline {
    if (variant) return this.#withConstants(kernel, half, variant, NO_CONSTANTS);
    const known = half ? this.#half : this.#full;
    let pipeline = known.get(kernel);
    if (!pipeline) {
      pipeline = this.#make(kernel, half, null, NO_CONSTANTS, labelOf(kernel, half, null));
      known.set(kernel, pipeline);
    }
    return pipeline;
  }

  #withConstants(kernel: AnyKernel, half: boolean, variant: Variant, constants: Constants): Pipeline {
    let key = labelOf(kernel, half, variant);
    for (const name in constants) key += ` ${name}=${constants[name]}`;
    let pipeline = this.#variants.get(key);
    if (!pipeline) {
      pipeline = this.#make(kernel, half, variant, constants, key);
      this.#variants.set(key, pipeline);
    }
    return pipeline;
  }

  #make(kernel: AnyKernel, half: boolean, variant: Variant | null, constants: Constants, label: string): Pipeline {
    const { file, code } = shaderFor(kernel, variant);
    const layout = this.layoutOf(kernel);
    this.device.pushErrorScope("validation");
    const moduleKey = half ? `${file} f16` : file;
    let module = this.#modules.get(moduleKey);
    if (!module) {
      module = this.device.createShaderModule({ label: file, code: half ? inHalfPrecision(code) : code });
      this.#modules.set(moduleKey, module);
    }
    const entryPoint = kernel.name.slice(kernel.name.indexOf(".") + 1);
    const pipeline = this.device.createComputePipeline({
      label,
      layout: layout.pipeline,
      compute: { module, entryPoint, constants },
    });
    this.check(this.device.popErrorScope(), ({ message }) => {
      return new DeviceError("webgpu", "shader", `${label} does not compile: ${message}`, {
        kernel: kernel.name,
        file,
      });
    });
    return { layout, pipeline };
  }

  layoutOf(kernel: AnyKernel): Layout {
    const [reads, writes, words] = [kernel.inputs.length, kernel.outputs.length, Object.keys(kernel.params).length];
    const key = `${reads} ${writes} ${words}`;
    let layout = this.#layouts.get(key);
    if (!layout) {
      // Built from the contract, so a shader that disagrees with it fails when its pipeline is made.
      const types: GPUBufferBindingType[] = [
        ...new Array(reads).fill("read-only-storage"),
        ...new Array(writes).fill("storage"),
      ];
      const entries: GPUBindGroupLayoutEntry[] = types.map((type, binding) => ({
        binding,
        visibility: COMPUTE,
        buffer: { type },
      }));
      entries.push({
        binding: types.length,
        visibility: COMPUTE,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: words * 4 },
      });
      const group = this.device.createBindGroupLayout({ label: key, entries });
      const pipeline = this.device.createPipelineLayout({ bindGroupLayouts: [group] });
      layout = { id: this.#layouts.size + 1, group, pipeline };
      this.#layouts.set(key, layout);
    }
    return layout;
  }
}

/** @throws MissingKernelError */
export function shaderFor(kernel: AnyKernel, variant: Variant | null): ShaderFile {
  const name = shaderName(kernel, variant);
  const index = shaderOf[name];
  if (index === undefined) throw new MissingKernelError(name, "webgpu");
  return shaderFiles[index]!;
}

/** The name of its entry in `shaderOf`. */
const shaderName = (kernel: AnyKernel, variant: Variant | null): string =>
  variant ? `${kernel.name}.${variant.name}` : kernel.name;
const labelOf = (kernel: AnyKernel, half: boolean, variant: Variant | null): string =>
  half ? `${shaderName(kernel, variant)} f16` : shaderName(kernel, variant);

/** The same file with `T` as f16. On one line, so that line numbers in messages stay true. */
export function inHalfPrecision(code: string): string {
  return `enable f16; ${code.replace(/^alias T = f32;/m, "alias T = f16;")}`;
}
