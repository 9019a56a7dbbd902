// dx[r, c] = dy[r, c] - exp(y[r, c]) sum_k dy[r, k], y being the output.
// One thread per row, two passes: the sum, the result.
alias T = f32;
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> y: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn log_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 256u;
  if (row >= params.rows) { return; }
  let first = row * params.classes;
  let end = first + params.classes;
  var total = 0.0;
  for (var i = first; i < end; i++) { total += f32(dy[i]); }
  for (var i = first; i < end; i++) { dx[i] = T(f32(dy[i]) - exp(f32(y[i])) * total); }
}
