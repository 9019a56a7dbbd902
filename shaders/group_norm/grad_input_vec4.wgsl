// dx[n, row, c] = rstd * (gamma * dy - shift - xhat * slope), xhat = (x - mean) * rstd; slope and shift are those of
// group_gradient. One thread owns four channels of four rows of one image, a quarter of the image apart.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(2) var<storage, read> gamma: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> mean: array<vec4f>; // [images, channels / 4]
@group(0) @binding(4) var<storage, read> rstd: array<vec4f>; // [images, channels / 4]
@group(0) @binding(5) var<storage, read> slope: array<vec4f>; // [images, channels / 4]
@group(0) @binding(6) var<storage, read> shift: array<vec4f>; // [images, channels / 4]
@group(0) @binding(7) var<storage, read_write> dx: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_input_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels / 4u;
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
    dx[at] = vec4<T>(scale * (weight * vec4f(dy[at]) - constant - (vec4f(x[at]) - centre) * per_deviation));
  }
}
