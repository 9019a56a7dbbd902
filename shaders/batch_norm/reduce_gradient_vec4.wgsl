// Per chunk of rows and channel: dgammas = sum over rows of dy * (x - mean) * rstd, and dbetas = sum of dy.
// One thread owns four channels of one chunk, as in reduce_moments; four rows are in flight at a time.
alias T = f32;
struct Params { rows: u32, channels: u32, chunks: u32, chunkRows: u32, first: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(2) var<storage, read> mean: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> rstd: array<vec4f>; // [channels / 4]
@group(0) @binding(4) var<storage, read_write> dgammas: array<vec4f>; // [first + chunks, channels / 4]
@group(0) @binding(5) var<storage, read_write> dbetas: array<vec4f>; // [first + chunks, channels / 4]
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_gradient_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels / 4u;
  let chunk = i / lanes;
  let lane = i % lanes;
  if (chunk >= params.chunks) { return; }
  let start = chunk * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  let centre = mean[lane];
  var row = start;
  var at = start * lanes + lane;
  var product = vec4f();
  var total = vec4f();
  for (; row + 4u <= end; row += 4u) {
    let a = vec4f(dy[at]);
    let b = vec4f(dy[at + lanes]);
    let c = vec4f(dy[at + 2u * lanes]);
    let d = vec4f(dy[at + 3u * lanes]);
    total += (a + b) + (c + d);
    product += (a * (vec4f(x[at]) - centre) + b * (vec4f(x[at + lanes]) - centre))
      + (c * (vec4f(x[at + 2u * lanes]) - centre) + d * (vec4f(x[at + 3u * lanes]) - centre));
    at += 4u * lanes;
  }
  for (; row < end; row++) {
    let g = vec4f(dy[at]);
    total += g;
    product += g * (vec4f(x[at]) - centre);
    at += lanes;
  }
  let to = (params.first + chunk) * lanes + lane;
  dgammas[to] = product * rstd[lane];
  dbetas[to] = total;
}
