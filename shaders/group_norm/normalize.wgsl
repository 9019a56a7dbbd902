// y[n, row, c] = (x[n, row, c] - mean[n, c]) * rstd[n, c] * gamma[c] + beta[c].
// One thread owns one channel of four rows of one image, a quarter of the image apart.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [images, rows, channels]
@group(0) @binding(1) var<storage, read> gamma: array<f32>; // [channels]
@group(0) @binding(2) var<storage, read> beta: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> mean: array<f32>; // [images, channels]
@group(0) @binding(4) var<storage, read> rstd: array<f32>; // [images, channels]
@group(0) @binding(5) var<storage, read_write> y: array<T>; // [images, rows, channels]
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn normalize(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let quarter = (params.rows + 3u) / 4u;
  let lane = i % lanes;
  let item = i / lanes;
  let image = item / quarter;
  if (image >= params.images) { return; }
  let own = image * lanes + lane;
  let centre = mean[own];
  let scale = rstd[own] * gamma[lane];
  let shift = beta[lane];
  for (var row = item % quarter; row < params.rows; row += quarter) {
    let at = (image * params.rows + row) * lanes + lane;
    y[at] = T((f32(x[at]) - centre) * scale + shift);
  }
}
