// dx[row, c] = dy[row, c] * gamma[c] * rstd[c] where y[row, c] > 0, and 0 elsewhere: the gradient through ReLU where
// the statistics are constants. The mask is the output's, so that x need not be kept. As grad_input_fixed_relu_vec4,
// but a thread owns four channels of 16 consecutive rows: on a CPU threads are dear, and memory in its order is cheap.
alias T = f32;
struct Params { rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> y: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(2) var<storage, read> gamma: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> rstd: array<vec4f>; // [channels / 4]
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(5) var<uniform> params: Params;

const ROWS = 16u;

@compute @workgroup_size(64)
fn grad_input_fixed_relu_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.channels / 4u;
  let lane = i % lanes;
  let first = i / lanes * ROWS;
  if (first >= params.rows) { return; }
  let scale = gamma[lane] * rstd[lane];
  for (var row = first; row < min(first + ROWS, params.rows); row++) {
    let at = row * lanes + lane;
    dx[at] = vec4<T>(select(vec4f(), vec4f(dy[at]) * scale, vec4f(y[at]) > vec4f()));
  }
}
