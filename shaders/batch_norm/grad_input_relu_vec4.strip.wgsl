// grad_input behind a ReLU: dx[row, c] = scale * (g - share - (x - centre) * slope), where g is dy where (x - centre) *
// scale + shift > 0 and 0 elsewhere, and the five factors are those of pack_factors. As grad_input_relu_vec4, but a
// thread owns four channels of 16 consecutive rows: on a CPU threads are dear, and memory in its order is cheap.
alias T = f32;
struct Params { rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(2) var<storage, read> factors: array<vec4f>; // [5, channels / 4]
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(4) var<uniform> params: Params;

const ROWS = 16u;

@compute @workgroup_size(64)
fn grad_input_relu_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.channels / 4u;
  let lane = i % lanes;
  let first = i / lanes * ROWS;
  if (first >= params.rows) { return; }
  let centre = factors[lane];
  let scale = factors[lanes + lane];
  let shift = factors[2u * lanes + lane];
  let share = factors[3u * lanes + lane];
  let slope = factors[4u * lanes + lane];
  for (var row = first; row < min(first + ROWS, params.rows); row++) {
    let at = row * lanes + lane;
    let offset = vec4f(x[at]) - centre;
    let g = select(vec4f(), vec4f(dy[at]), offset * scale + shift > vec4f());
    dx[at] = vec4<T>(scale * (g - share - offset * slope));
  }
}
