// dlogits[i] = dy p (1 - p) slopes[u, k, 0 if y = 1 else 1], p = sigmoid(z[i]); 0 where the label is ignored or neither
// 0 nor 1. One thread per element.
struct Params { units: u32, rows: u32, classes: u32, first_unit: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> slopes: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_sigmoid(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.units * params.rows * params.classes) { return; }
  let label = labels[i];
  var slope = 0.0;
  if (label != params.ignore && label < 2u) {
    let unit = params.first_unit + i / (params.rows * params.classes);
    slope = slopes[2u * (unit * params.classes + i % params.classes) + select(1u, 0u, label == 1u)];
  }
  let e = exp(-abs(logits[i])); // p (1 - p) = e / (1 + e)^2 for either sign
  dlogits[i] = dy[0] * slope * e / ((1.0 + e) * (1.0 + e));
}
