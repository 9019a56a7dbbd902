// norm[i] = (max_k z[i, k], 1 / sum_k exp(z[i, k] - max)). One thread per row, which it holds in registers: the number of
// classes is a constant, so that loops unroll and each logit is read once.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<vec2f>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn row_norm(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) { return; }
  let first = row * CLASSES;
  var z: array<f32, 32>;
  z[0] = logits[first];
  var largest = z[0];
  for (var k = 1u; k < CLASSES; k++) {
    z[k] = logits[first + k];
    largest = max(largest, z[k]);
  }
  var sum = 0.0;
  for (var k = 0u; k < CLASSES; k++) { sum += exp(z[k] - largest); }
  norm[row] = vec2f(largest, 1.0 / sum);
}
