// dx[r, c] = dy[r, c] - exp(y[r, c]) sum_k dy[r, k], y being the output.
// One thread per row, in registers, as in forward.registers.
alias T = f32;
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> y: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn log_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) { return; }
  let first = row * CLASSES;
  var g: array<f32, 32>;
  var total = 0.0;
  for (var k = 0u; k < CLASSES; k++) {
    g[k] = f32(dy[first + k]);
    total += g[k];
  }
  for (var k = 0u; k < CLASSES; k++) { dx[first + k] = T(g[k] - exp(f32(y[first + k])) * total); }
}
