// y[o, i, j, k] = x[o, start0 + i, start1 + j, start2 + k]: a box copied out of a larger one. One thread per element of y.
// Axes of size 1 cost no division.
alias T = f32;
struct Params {
  outer: u32,
  part0: u32, part1: u32, part2: u32,
  whole0: u32, whole1: u32, whole2: u32,
  start0: u32, start1: u32, start2: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn cut(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  if (index >= params.outer * params.part0 * params.part1 * params.part2) { return; }
  var rest = index / params.part2;
  let k = index - rest * params.part2;
  var j = 0u;
  if (params.part1 > 1u) {
    let above = rest / params.part1;
    j = rest - above * params.part1;
    rest = above;
  }
  var i = 0u;
  if (params.part0 > 1u) {
    let above = rest / params.part0;
    i = rest - above * params.part0;
    rest = above;
  }
  let row = (rest * params.whole0 + params.start0 + i) * params.whole1 + params.start1 + j;
  y[index] = x[row * params.whole2 + params.start2 + k];
}
