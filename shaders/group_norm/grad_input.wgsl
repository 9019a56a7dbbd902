// dx[n, row, c] = rstd * (gamma * dy - shift - xhat * slope), xhat = (x - mean) * rstd; slope and shift are those of
// group_gradient. One thread owns one channel of four rows of one image, a quarter of the image apart.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [images, rows, channels]
@group(0) @binding(1) var<storage, read> dy: array<T>; // [images, rows, channels]
@group(0) @binding(2) var<storage, read> gamma: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> mean: array<f32>; // [images, channels]
@group(0) @binding(4) var<storage, read> rstd: array<f32>; // [images, channels]
@group(0) @binding(5) var<storage, read> slope: array<f32>; // [images, channels]
@group(0) @binding(6) var<storage, read> shift: array<f32>; // [images, channels]
@group(0) @binding(7) var<storage, read_write> dx: array<T>; // [images, rows, channels]
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let quarter = (params.rows + 3u) / 4u;
  let lane = i % lanes;
  let item = i / lanes;
  let image = item / quarter;
  if (image >= params.images) { return; }
  let own = image * lanes + lane;
  let centre = mean[own];
  let scale = rstd[own];
  let weight = gamma[lane];
  let per_deviation = slope[own] * scale;
  let constant = shift[own];
  for (var row = item % quarter; row < params.rows; row += quarter) {
    let at = (image * params.rows + row) * lanes + lane;
    dx[at] = T(scale * (weight * f32(dy[at]) - constant - (f32(x[at]) - centre) * per_deviation));
  }
}
