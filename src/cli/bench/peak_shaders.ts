// The kernels that an adapter's peaks are measured with. They are no ops, so shaders/ does not hold them.

/** Of both. */
export const WORKGROUP = 64;

/** y[i] = x[i], four numbers a thread: neighbours read and write next to each other, and nothing is computed. */
export const COPY_SHADER = `
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  y[id.x] = x[id.x];
}
`;

const CHAINS = 8;
const STEPS = 16;
const chains = (line: (chain: number) => string): string[] => Array.from({ length: CHAINS }, (_, i) => line(i));

/**
 * a = a * factor + factor, `STEPS` times a round, in `CHAINS` vectors of four that do not wait for one another. A thread owns
 * its chains, all in registers, and stores their sum, so that none can be left out. Rounds and factor are read from a
 * buffer: the compiler can work nothing out ahead.
 */
export const FMA_SHADER = `
struct Params { rounds: u32, factor: f32 }
@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let factor = vec4f(params.factor);
${chains((i) => `  var a${i} = vec4f(f32(id.x) + ${i}.0);`).join("\n")}
  for (var round = 0u; round < params.rounds; round++) {
    for (var i = 0u; i < ${STEPS}u; i++) {
${chains((i) => `      a${i} = fma(a${i}, factor, factor);`).join("\n")}
    }
  }
  y[id.x] = dot(${chains((i) => `a${i}`).join(" + ")}, vec4f(1.0));
}
`;

/** Floating-point operations of one thread of `FMA_SHADER`. */
export const flopsOfThread = (rounds: number): number => 2 * 4 * CHAINS * STEPS * rounds;
