// reduce_gradient behind a ReLU: per chunk of rows and channel, dgammas = sum over rows of g * (x - mean) * rstd and
// dbetas = sum of g, where g is dy where (x - mean) * rstd * gamma + beta > 0 and 0 elsewhere.
// One thread owns four channels of one chunk, as in reduce_moments; four rows are in flight at a time.
alias T = f32;
struct Params { rows: u32, channels: u32, chunks: u32, chunkRows: u32, first: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [rows, channels / 4]
@group(0) @binding(2) var<storage, read> gamma: array<vec4f>; // [channels / 4]
@group(0) @binding(3) var<storage, read> beta: array<vec4f>; // [channels / 4]
@group(0) @binding(4) var<storage, read> mean: array<vec4f>; // [channels / 4]
@group(0) @binding(5) var<storage, read> rstd: array<vec4f>; // [channels / 4]
@group(0) @binding(6) var<storage, read_write> dgammas: array<vec4f>; // [first + chunks, channels / 4]
@group(0) @binding(7) var<storage, read_write> dbetas: array<vec4f>; // [first + chunks, channels / 4]
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_gradient_relu_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels / 4u;
  let chunk = i / lanes;
  let lane = i % lanes;
  if (chunk >= params.chunks) { return; }
  let start = chunk * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  let centre = mean[lane];
  let scale = rstd[lane] * gamma[lane];
  let shift = beta[lane];
  var row = start;
  var at = start * lanes + lane;
  var product = vec4f();
  var total = vec4f();
  for (; row + 4u <= end; row += 4u) {
    let xa = vec4f(x[at]) - centre;
    let xb = vec4f(x[at + lanes]) - centre;
    let xc = vec4f(x[at + 2u * lanes]) - centre;
    let xd = vec4f(x[at + 3u * lanes]) - centre;
    let a = select(vec4f(), vec4f(dy[at]), xa * scale + shift > vec4f());
    let b = select(vec4f(), vec4f(dy[at + lanes]), xb * scale + shift > vec4f());
    let c = select(vec4f(), vec4f(dy[at + 2u * lanes]), xc * scale + shift > vec4f());
    let d = select(vec4f(), vec4f(dy[at + 3u * lanes]), xd * scale + shift > vec4f());
    total += (a + b) + (c + d);
    product += (a * xa + b * xb) + (c * xc + d * xd);
    at += 4u * lanes;
  }
  for (; row < end; row++) {
    let offset = vec4f(x[at]) - centre;
    let g = select(vec4f(), vec4f(dy[at]), offset * scale + shift > vec4f());
    total += g;
    product += g * offset;
    at += lanes;
  }
  let to = (params.first + chunk) * lanes + lane;
  dgammas[to] = product * rstd[lane];
  dbetas[to] = total;
}
