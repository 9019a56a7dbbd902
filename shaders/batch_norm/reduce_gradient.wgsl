// Per chunk of rows and channel: dgammas = sum over rows of dy * (x - mean) * rstd, and dbetas = sum of dy.
// One thread owns one channel of one chunk, as in reduce_moments; four rows are in flight at a time.
alias T = f32;
struct Params { rows: u32, channels: u32, chunks: u32, chunkRows: u32, first: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [rows, channels]
@group(0) @binding(1) var<storage, read> dy: array<T>; // [rows, channels]
@group(0) @binding(2) var<storage, read> mean: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> rstd: array<f32>; // [channels]
@group(0) @binding(4) var<storage, read_write> dgammas: array<f32>; // [first + chunks, channels]
@group(0) @binding(5) var<storage, read_write> dbetas: array<f32>; // [first + chunks, channels]
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let chunk = i / lanes;
  let lane = i % lanes;
  if (chunk >= params.chunks) { return; }
  let start = chunk * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  let centre = mean[lane];
  var row = start;
  var at = start * lanes + lane;
  var product = 0.0;
  var total = 0.0;
  for (; row + 4u <= end; row += 4u) {
    let a = f32(dy[at]);
    let b = f32(dy[at + lanes]);
    let c = f32(dy[at + 2u * lanes]);
    let d = f32(dy[at + 3u * lanes]);
    total += (a + b) + (c + d);
    product += (a * (f32(x[at]) - centre) + b * (f32(x[at + lanes]) - centre))
      + (c * (f32(x[at + 2u * lanes]) - centre) + d * (f32(x[at + 3u * lanes]) - centre));
    at += 4u * lanes;
  }
  for (; row < end; row++) {
    let g = f32(dy[at]);
    total += g;
    product += g * (f32(x[at]) - centre);
    at += lanes;
  }
  let to = (params.first + chunk) * lanes + lane;
  dgammas[to] = product * rstd[lane];
  dbetas[to] = total;
}
