// dlogits[i, k] = dy p[k] (g[k] - sum_j p[j] g[j]), p = softmax of row i from `norm`, g[k] = slopes[u, k, 0 if y = k else 1];
// 0 in ignored rows. One thread per row, which it holds in registers, as the number of classes is a constant: each logit
// is read once, each exponential computed once.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { units: u32, rows: u32, classes: u32, first_unit: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> norm: array<vec2f>;
@group(0) @binding(3) var<storage, read> slopes: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(64)
fn grad_softmax(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.units * params.rows) { return; }
  let first = row * CLASSES;
  let label = labels[row];
  if (label == params.ignore || label >= CLASSES) {
    for (var k = 0u; k < CLASSES; k++) { dlogits[first + k] = 0.0; }
    return;
  }
  let unit = 2u * (params.first_unit + row / params.rows) * CLASSES;
  let scale = norm[row];
  let own = slopes[unit + 2u * label];
  var p: array<f32, 32>;
  var g: array<f32, 32>;
  var mean = 0.0;
  for (var k = 0u; k < CLASSES; k++) {
    p[k] = exp(logits[first + k] - scale.x) * scale.y;
    g[k] = select(slopes[unit + 2u * k + 1u], own, k == label);
    mean += p[k] * g[k];
  }
  let seed = dy[0];
  for (var k = 0u; k < CLASSES; k++) { dlogits[first + k] = seed * p[k] * (g[k] - mean); }
}
