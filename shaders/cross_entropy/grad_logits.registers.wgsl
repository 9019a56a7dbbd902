// dlogits[i, k] = dy / total · ((1 - smoothing) w[y] (p[k] - [k = y]) + smoothing / classes · (p[k] sum_j w[j] - w[k]))
// with p = softmax of row i, recomputed; 0 in ignored rows. One thread per row, which it holds in registers, as the number
// of classes is a constant: each logit is read once, each exponential computed once.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { rows: u32, classes: u32, ignore: u32, smoothing: f32, weight_sum: f32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> total: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(64)
fn grad_logits(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) { return; }
  let first = row * CLASSES;
  let label = labels[row];
  if (label == params.ignore || label >= CLASSES || total[0] <= 0.0) {
    for (var k = 0u; k < CLASSES; k++) { dlogits[first + k] = 0.0; }
    return;
  }
  var p: array<f32, 32>;
  p[0] = logits[first];
  var largest = p[0];
  for (var k = 1u; k < CLASSES; k++) {
    p[k] = logits[first + k];
    largest = max(largest, p[k]);
  }
  var sum = 0.0;
  for (var k = 0u; k < CLASSES; k++) {
    p[k] = exp(p[k] - largest);
    sum += p[k];
  }
  let scale = dy[0] / total[0];
  let hard = scale * (1.0 - params.smoothing) * weights[label];
  let soft = scale * params.smoothing / f32(CLASSES);
  for (var k = 0u; k < CLASSES; k++) {
    let share = p[k] / sum;
    let hit = select(0.0, 1.0, k == label);
    dlogits[first + k] = hard * (share - hit) + soft * (share * params.weight_sum - weights[k]);
  }
}
