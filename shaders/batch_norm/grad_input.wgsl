// dx[row, c] = gamma * rstd * (dy - dbeta / total - xhat * dgamma / total), xhat = (x - mean) * rstd: the gradient
// through the batch's own statistics. One thread owns one channel of four rows, a quarter of the map apart.
// total is the number of rows in the whole batch, rows that in this part of it.
alias T = f32;
struct Params { rows: u32, channels: u32, total: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [rows, channels]
@group(0) @binding(1) var<storage, read> dy: array<T>; // [rows, channels]
@group(0) @binding(2) var<storage, read> gamma: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> mean: array<f32>; // [channels]
@group(0) @binding(4) var<storage, read> rstd: array<f32>; // [channels]
@group(0) @binding(5) var<storage, read> dgamma: array<f32>; // [channels]
@group(0) @binding(6) var<storage, read> dbeta: array<f32>; // [channels]
@group(0) @binding(7) var<storage, read_write> dx: array<T>; // [rows, channels]
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let quarter = (params.rows + 3u) / 4u;
  let lane = i % lanes;
  let first = i / lanes;
  if (first >= quarter) { return; }
  let centre = mean[lane];
  let scale = gamma[lane] * rstd[lane];
  let slope = rstd[lane] * dgamma[lane] / f32(params.total);
  let shift = dbeta[lane] / f32(params.total);
  for (var row = first; row < params.rows; row += quarter) {
    let at = row * lanes + lane;
    dx[at] = T(scale * (f32(dy[at]) - shift - (f32(x[at]) - centre) * slope));
  }
}
