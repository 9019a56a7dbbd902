// y[o, s, i] = sum of x[o, l, i] over l = s, s + splits, s + 2 splits, …
// One thread per element of y; with inner = 1 neighbouring threads read neighbouring terms. The host calls it again until
// splits = 1, so that no thread adds more than 64 terms and the order is always the same.
struct Params { outer: u32, length: u32, inner: u32, splits: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn sum(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 256u;
  if (at >= params.outer * params.splits * params.inner) { return; }
  let i = at % params.inner;
  let s = (at / params.inner) % params.splits;
  let o = at / params.inner / params.splits;
  let base = o * params.length * params.inner + i;
  var total = 0.0;
  for (var l = s; l < params.length; l += params.splits) { total += x[base + l * params.inner]; }
  y[at] = total;
}
