// dlogits[i, k] = dy / total · ((1 - smoothing) w[y] (p[k] - [k = y]) + smoothing / classes · (p[k] sum_j w[j] - w[k]))
// with p = softmax of row i, recomputed; 0 in ignored rows. One thread per row: it needs the whole row to normalise.
struct Params { rows: u32, classes: u32, ignore: u32, smoothing: f32, weight_sum: f32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> total: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_logits(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 256u;
  if (row >= params.rows) { return; }
  let first = row * params.classes;
  let label = labels[row];
  if (label == params.ignore || label >= params.classes || total[0] <= 0.0) {
    for (var k = 0u; k < params.classes; k++) { dlogits[first + k] = 0.0; }
    return;
  }
  var largest = logits[first];
  for (var k = 1u; k < params.classes; k++) { largest = max(largest, logits[first + k]); }
  var sum = 0.0;
  for (var k = 0u; k < params.classes; k++) { sum += exp(logits[first + k] - largest); }
  let scale = dy[0] / total[0];
  let hard = scale * (1.0 - params.smoothing) * weights[label];
  let soft = scale * params.smoothing / f32(params.classes);
  for (var k = 0u; k < params.classes; k++) {
    let p = exp(logits[first + k] - largest) / sum;
    let hit = select(0.0, 1.0, k == label);
    dlogits[first + k] = hard * (p - hit) + soft * (p * params.weight_sum - weights[k]);
  }
}
