// y[r, c] = x[r, c] - log(sum_k exp(x[r, k])) over the rows of x[rows, classes].
// One thread per row, three passes: the maximum, the sum (at least 1), the result. Classes are few, so a row stays cached.
alias T = f32;
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn log_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 256u;
  if (row >= params.rows) { return; }
  let first = row * params.classes;
  let end = first + params.classes;
  var top = f32(x[first]);
  for (var i = first + 1u; i < end; i++) { top = max(top, f32(x[i])); }
  var total = 0.0;
  for (var i = first; i < end; i++) { total += exp(f32(x[i]) - top); }
  let shift = log(total);
  for (var i = first; i < end; i++) { y[i] = T((f32(x[i]) - top) - shift); }
}
