// y[row, c] = a((x[row, c] - mean[c]) * rstd[c] * gamma[c] + beta[c] + r[row, c]), where r is the residual if add is 1
// and else 0, and a is ReLU if relu is 1 and else the identity. Without add, residual is anything of x's size. As
// normalize_fused_vec4, but a thread owns four channels of 16 consecutive rows: on a CPU threads are dear, and memory
// in its order is cheap.
alias T = f32;
struct Params { rows: u32, channels: u32, add: u32, relu: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> gamma: array<vec4f>; // [channels / 4]
@group(0) @binding(2) var<storage, read> beta: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> mean: array<vec4f>; // [channels / 4]
@group(0) @binding(4) var<storage, read> rstd: array<vec4f>; // [channels / 4]
@group(0) @binding(5) var<storage, read> residual: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(7) var<uniform> params: Params;

const ROWS = 16u;

@compute @workgroup_size(64)
fn normalize_fused_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.channels / 4u;
  let lane = i % lanes;
  let first = i / lanes * ROWS;
  if (first >= params.rows) { return; }
  let centre = mean[lane];
  let scale = rstd[lane] * gamma[lane];
  let shift = beta[lane];
  for (var row = first; row < min(first + ROWS, params.rows); row++) {
    let at = row * lanes + lane;
    var v = (vec4f(x[at]) - centre) * scale + shift;
    if (params.add == 1u) { v += vec4f(residual[at]); }
    if (params.relu == 1u) { v = max(v, vec4f()); }
    y[at] = vec4<T>(v);
  }
}
