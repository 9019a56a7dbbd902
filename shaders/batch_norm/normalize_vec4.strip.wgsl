// y[row, c] = (x[row, c] - mean[c]) * rstd[c] * gamma[c] + beta[c]. As normalize_vec4, but a thread owns four channels
// of 16 consecutive rows: on a CPU threads are dear, and memory in its order is cheap.
alias T = f32;
struct Params { rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> gamma: array<vec4f>; // [channels / 4]
@group(0) @binding(2) var<storage, read> beta: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> mean: array<vec4f>; // [channels / 4]
@group(0) @binding(4) var<storage, read> rstd: array<vec4f>; // [channels / 4]
@group(0) @binding(5) var<storage, read_write> y: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(6) var<uniform> params: Params;

const ROWS = 16u;

@compute @workgroup_size(64)
fn normalize_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
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
    y[at] = vec4<T>((vec4f(x[at]) - centre) * scale + shift);
  }
}
