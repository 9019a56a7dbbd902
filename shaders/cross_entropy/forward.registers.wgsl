// partials[t] = (sum of row losses, sum of w[y]) over rows t, t + threads, t + 2 threads, …
// with row loss = (1 - smoothing) w[y] (lse - z[y]) + smoothing / classes · sum_k w[k] (lse - z[k]), lse = log sum_k exp z[k].
// As forward; the number of classes is a constant, so that loops unroll and a row is held in registers.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { rows: u32, classes: u32, threads: u32, block: u32, ignore: u32, smoothing: f32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

// (loss, weight) of one row.
fn row_loss(row: u32) -> vec2f {
  let label = labels[row];
  if (label == params.ignore || label >= CLASSES) { return vec2f(); }
  let first = row * CLASSES;
  var z: array<f32, 32>;
  z[0] = logits[first];
  var largest = z[0];
  var own = z[0];
  for (var k = 1u; k < CLASSES; k++) {
    z[k] = logits[first + k];
    largest = max(largest, z[k]);
    own = select(own, z[k], k == label);
  }
  var sum = 0.0;
  for (var k = 0u; k < CLASSES; k++) { sum += exp(z[k] - largest); }
  let log_sum = log(sum);
  let weight = weights[label];
  // largest - z before adding: the difference of two large logits is exact where their sum with log_sum is not
  var loss = (1.0 - params.smoothing) * weight * (log_sum + (largest - own));
  if (params.smoothing > 0.0) {
    var spread = 0.0;
    for (var k = 0u; k < CLASSES; k++) { spread += weights[k] * (log_sum + (largest - z[k])); }
    loss += params.smoothing / f32(CLASSES) * spread;
  }
  return vec2f(loss, weight);
}

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= params.threads) { return; }
  var total = vec2f();
  var row = t;
  while (row < params.rows) {
    var part = vec2f();
    for (var i = 0u; i < params.block && row < params.rows; i++) {
      part += row_loss(row);
      row += params.threads;
    }
    total += part;
  }
  partials[2u * t] = total.x;
  partials[2u * t + 1u] = total.y;
}
