// y[o, i] = max of x[o, l, i] over l, index[o, i] = the first l that attains it. One thread per element of y.
alias T = f32;
struct Params { outer: u32, length: u32, inner: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn maximum(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 256u;
  if (at >= params.outer * params.inner) { return; }
  let base = at / params.inner * params.length * params.inner + at % params.inner;
  var best = x[base];
  var first = 0u;
  for (var l = 1u; l < params.length; l++) {
    let v = x[base + l * params.inner];
    if (v > best) {
      best = v;
      first = l;
    }
  }
  y[at] = best;
  index[at] = first;
}
