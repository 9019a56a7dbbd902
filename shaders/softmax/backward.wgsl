// dx[r, c] = y[r, c] (dy[r, c] - sum_k dy[r, k] y[r, k]), y being the output.
// One thread per row, three passes: the likeliest class m, the sum, the result. Gradients are taken relative to
// dy[r, m], which changes nothing in exact arithmetic: where y[r, m] is close to 1 the difference would cancel.
alias T = f32;
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> y: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 256u;
  if (row >= params.rows) { return; }
  let first = row * params.classes;
  let end = first + params.classes;
  var top = f32(y[first]);
  var origin = f32(dy[first]);
  for (var i = first + 1u; i < end; i++) {
    let p = f32(y[i]);
    if (p > top) {
      top = p;
      origin = f32(dy[i]);
    }
  }
  var total = 0.0;
  for (var i = first; i < end; i++) { total += (f32(dy[i]) - origin) * f32(y[i]); }
  for (var i = first; i < end; i++) { dx[i] = T(f32(y[i]) * (f32(dy[i]) - origin - total)); }
}
