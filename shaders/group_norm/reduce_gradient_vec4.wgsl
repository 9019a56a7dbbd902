// Per image, chunk of rows and channel: dgammas = sum of dy * (x - mean) * rstd, and dbetas = sum of dy.
// One thread owns four channels of one chunk, as in reduce_moments.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32, chunks: u32, chunkRows: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(2) var<storage, read> mean: array<vec4f>; // [images, channels / 4]
@group(0) @binding(3) var<storage, read> rstd: array<vec4f>; // [images, channels / 4]
@group(0) @binding(4) var<storage, read_write> dgammas: array<vec4f>; // [images, chunks, channels / 4]
@group(0) @binding(5) var<storage, read_write> dbetas: array<vec4f>; // [images, chunks, channels / 4]
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_gradient_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels / 4u;
  let lane = i % lanes;
  let item = i / lanes;
  let image = item / params.chunks;
  if (image >= params.images) { return; }
  let start = item % params.chunks * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  let centre = mean[image * lanes + lane];
  var at = (image * params.rows + start) * lanes + lane;
  var product = vec4f();
  var total = vec4f();
  for (var row = start; row < end; row++) {
    let g = vec4f(dy[at]);
    total += g;
    product += g * (vec4f(x[at]) - centre);
    at += lanes;
  }
  dgammas[i] = product * rstd[image * lanes + lane];
  dbetas[i] = total;
}
