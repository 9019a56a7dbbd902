// y[row, c] = a((x[row, c] - mean[c]) * rstd[c] * gamma[c] + beta[c] + r[row, c]), where r is the residual if add is 1
// and else 0, and a is ReLU if relu is 1 and else the identity. Without add, residual is anything of x's size.
// One thread owns one channel of four rows, as in normalize.
alias T = f32;
struct Params { rows: u32, channels: u32, add: u32, relu: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [rows, channels]
@group(0) @binding(1) var<storage, read> gamma: array<f32>; // [channels]
@group(0) @binding(2) var<storage, read> beta: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> mean: array<f32>; // [channels]
@group(0) @binding(4) var<storage, read> rstd: array<f32>; // [channels]
@group(0) @binding(5) var<storage, read> residual: array<T>; // [rows, channels]
@group(0) @binding(6) var<storage, read_write> y: array<T>; // [rows, channels]
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(256)
fn normalize_fused(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let quarter = (params.rows + 3u) / 4u;
  let lane = i % lanes;
  let first = i / lanes;
  if (first >= quarter) { return; }
  let centre = mean[lane];
  let scale = rstd[lane] * gamma[lane];
  let shift = beta[lane];
  for (var row = first; row < params.rows; row += quarter) {
    let at = row * lanes + lane;
    var v = (f32(x[at]) - centre) * scale + shift;
    if (params.add == 1u) { v += f32(residual[at]); }
    if (params.relu == 1u) { v = max(v, 0.0); }
    y[at] = T(v);
  }
}
