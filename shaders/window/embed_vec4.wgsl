// y[o, i, j, k] = x[o, i - start0, j - start1, k - start2] where that lies in x, else `value`. One thread
// per vector of four; part2, whole2 and start2 count vectors.
// Unsigned differences below zero wrap to large numbers, so one comparison per axis tests both sides.
alias T = f32;
struct Params {
  outer: u32,
  part0: u32, part1: u32, part2: u32,
  whole0: u32, whole1: u32, whole2: u32,
  start0: u32, start1: u32, start2: u32,
  value: f32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn embed_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  if (index >= params.outer * params.whole0 * params.whole1 * params.whole2) { return; }
  var rest = index / params.whole2;
  let k = index - rest * params.whole2 - params.start2;
  var j = 0u;
  if (params.whole1 > 1u) {
    let above = rest / params.whole1;
    j = rest - above * params.whole1 - params.start1;
    rest = above;
  }
  var i = 0u;
  if (params.whole0 > 1u) {
    let above = rest / params.whole0;
    i = rest - above * params.whole0 - params.start0;
    rest = above;
  }
  var v = vec4<T>(T(params.value));
  if (i < params.part0 && j < params.part1 && k < params.part2) {
    v = x[((rest * params.part0 + i) * params.part1 + j) * params.part2 + k];
  }
  y[index] = v;
}
