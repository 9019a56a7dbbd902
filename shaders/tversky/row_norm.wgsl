// norm[i] = (max_k z[i, k], 1 / sum_k exp(z[i, k] - max)). One thread per row. The two are kept apart because
// z - (max + log sum) would lose digits where logits are large.
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<vec2f>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn row_norm(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 256u;
  if (row >= params.rows) { return; }
  let first = row * params.classes;
  var largest = logits[first];
  for (var k = 1u; k < params.classes; k++) { largest = max(largest, logits[first + k]); }
  var sum = 0.0;
  for (var k = 0u; k < params.classes; k++) { sum += exp(logits[first + k] - largest); }
  norm[row] = vec2f(largest, 1.0 / sum);
}
