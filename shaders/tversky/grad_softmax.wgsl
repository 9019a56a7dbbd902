// dlogits[i, k] = dy p[k] (g[k] - sum_j p[j] g[j]), p = softmax of row i from `norm`, g[k] = slopes[u, k, 0 if y = k else 1];
// 0 in ignored rows. One thread per row: it needs the sum over the row.
struct Params { units: u32, rows: u32, classes: u32, first_unit: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> norm: array<vec2f>;
@group(0) @binding(3) var<storage, read> slopes: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_softmax(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 256u;
  if (row >= params.units * params.rows) { return; }
  let first = row * params.classes;
  let label = labels[row];
  if (label == params.ignore || label >= params.classes) {
    for (var k = 0u; k < params.classes; k++) { dlogits[first + k] = 0.0; }
    return;
  }
  let unit = (params.first_unit + row / params.rows) * params.classes;
  let scale = norm[row];
  var mean = 0.0;
  for (var k = 0u; k < params.classes; k++) {
    let p = exp(logits[first + k] - scale.x) * scale.y;
    mean += p * slopes[2u * (unit + k) + select(1u, 0u, k == label)];
  }
  for (var k = 0u; k < params.classes; k++) {
    let p = exp(logits[first + k] - scale.x) * scale.y;
    let g = slopes[2u * (unit + k) + select(1u, 0u, k == label)];
    dlogits[first + k] = dy[0] * p * (g - mean);
  }
}
