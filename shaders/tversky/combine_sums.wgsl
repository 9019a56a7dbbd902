// sums[u, k] = sum_t partials[u, t, k], three numbers each. One workgroup per unit and class; lane t adds chunks
// t, t + 64, … in blocks, then the lanes meet in a tree: the same order every run.
struct Params { units: u32, chunks: u32, classes: u32, block: u32 }
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> lanes: array<vec3f, 64>;

@compute @workgroup_size(64)
fn combine_sums(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
  let k = group.x;
  let unit = group.y + group.z * 32768u;
  if (unit >= params.units) { return; } // the same for the whole workgroup
  var mine = vec3f();
  var chunk = t;
  while (chunk < params.chunks) {
    var part = vec3f();
    for (var n = 0u; n < params.block && chunk < params.chunks; n++) {
      let at = ((unit * params.chunks + chunk) * params.classes + k) * 3u;
      part += vec3f(partials[at], partials[at + 1u], partials[at + 2u]);
      chunk += 64u;
    }
    mine += part;
  }
  lanes[t] = mine;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (t < half) { lanes[t] += lanes[t + half]; }
    workgroupBarrier();
  }
  if (t == 0u) {
    let at = (unit * params.classes + k) * 3u;
    sums[at] = lanes[0].x;
    sums[at + 1u] = lanes[0].y;
    sums[at + 2u] = lanes[0].z;
  }
}
