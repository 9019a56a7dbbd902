// y[r, c] = exp(x[r, c]) / sum_k exp(x[r, k]) over the rows of x[rows, classes].
// One thread per row, which it holds in registers: the number of classes is a constant, so that loops unroll and each
// logit is read once, each exponential computed once.
alias T = f32;
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) { return; }
  let first = row * CLASSES;
  var v: array<f32, 32>;
  v[0] = f32(x[first]);
  var top = v[0];
  for (var k = 1u; k < CLASSES; k++) {
    v[k] = f32(x[first + k]);
    top = max(top, v[k]);
  }
  var total = 0.0;
  for (var k = 0u; k < CLASSES; k++) {
    v[k] = exp(v[k] - top);
    total += v[k];
  }
  let factor = 1.0 / total;
  for (var k = 0u; k < CLASSES; k++) { y[first + k] = T(v[k] * factor); }
}
