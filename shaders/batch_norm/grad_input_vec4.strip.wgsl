// dx[row, c] = gamma * rstd * (dy - dbeta / total - xhat * dgamma / total), xhat = (x - mean) * rstd: the gradient
// through the batch's own statistics. As grad_input_vec4, but a thread owns four channels of 16 consecutive rows: on a
// CPU threads are dear, and memory in its order is cheap. total is the number of rows in the whole batch, rows that in
// this part of it.
alias T = f32;
struct Params { rows: u32, channels: u32, total: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(2) var<storage, read> gamma: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> mean: array<vec4f>; // [channels / 4]
@group(0) @binding(4) var<storage, read> rstd: array<vec4f>; // [channels / 4]
@group(0) @binding(5) var<storage, read> dgamma: array<vec4f>; // [channels / 4]
@group(0) @binding(6) var<storage, read> dbeta: array<vec4f>; // [channels / 4]
@group(0) @binding(7) var<storage, read_write> dx: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(8) var<uniform> params: Params;

const ROWS = 16u;

@compute @workgroup_size(64)
fn grad_input_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.channels / 4u;
  let lane = i % lanes;
  let first = i / lanes * ROWS;
  if (first >= params.rows) { return; }
  let centre = mean[lane];
  let scale = gamma[lane] * rstd[lane];
  let slope = rstd[lane] * dgamma[lane] / f32(params.total);
  let shift = dbeta[lane] / f32(params.total);
  for (var row = first; row < min(first + ROWS, params.rows); row++) {
    let at = row * lanes + lane;
    dx[at] = vec4<T>(scale * (vec4f(dy[at]) - shift - (vec4f(x[at]) - centre) * slope));
  }
}
