// grad_input behind a ReLU: dx[row, c] = scale * (g - share - (x - centre) * slope), where g is dy where
// (x - centre) * scale + shift > 0 and 0 elsewhere, and the five factors are those of pack_factors.
// One thread owns one channel of four rows, a quarter of the map apart.
alias T = f32;
struct Params { rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [rows, channels]
@group(0) @binding(1) var<storage, read> dy: array<T>; // [rows, channels]
@group(0) @binding(2) var<storage, read> factors: array<f32>; // [5, channels]
@group(0) @binding(3) var<storage, read_write> dx: array<T>; // [rows, channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_input_relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let quarter = (params.rows + 3u) / 4u;
  let lane = i % lanes;
  let first = i / lanes;
  if (first >= quarter) { return; }
  let centre = factors[lane];
  let scale = factors[lanes + lane];
  let shift = factors[2u * lanes + lane];
  let share = factors[3u * lanes + lane];
  let slope = factors[4u * lanes + lane];
  for (var row = first; row < params.rows; row += quarter) {
    let at = row * lanes + lane;
    let offset = f32(x[at]) - centre;
    let g = select(0.0, f32(dy[at]), offset * scale + shift > 0.0);
    dx[at] = T(scale * (g - share - offset * slope));
  }
}
