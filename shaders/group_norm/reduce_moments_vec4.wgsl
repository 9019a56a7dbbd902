// Per image, chunk of rows and channel: the mean of x[n, row, c] and m2 = sum over rows of (x - mean)^2.
// One thread owns four channels of one chunk; neighbours own neighbouring channels. Four rows at a time are reduced in
// registers and merged into the running moments by Chan's formula, as in batch_norm.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32, chunks: u32, chunkRows: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(1) var<storage, read_write> means: array<vec4f>; // [images, chunks, channels / 4]
@group(0) @binding(2) var<storage, read_write> m2s: array<vec4f>; // [images, chunks, channels / 4]
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_moments_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels / 4u;
  let item = i / lanes;
  let image = item / params.chunks;
  if (image >= params.images) { return; }
  let start = item % params.chunks * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  var row = start;
  var at = (image * params.rows + start) * lanes + i % lanes;
  var count = 0.0;
  var mean = vec4f();
  var m2 = vec4f();
  for (; row + 4u <= end; row += 4u) {
    let a = vec4f(x[at]);
    let b = vec4f(x[at + lanes]);
    let c = vec4f(x[at + 2u * lanes]);
    let d = vec4f(x[at + 3u * lanes]);
    at += 4u * lanes;
    let four = (a + b + c + d) * 0.25;
    let squares = (a - four) * (a - four) + (b - four) * (b - four)
      + (c - four) * (c - four) + (d - four) * (d - four);
    let delta = four - mean;
    let share = 4.0 / (count + 4.0);
    mean += delta * share;
    m2 += squares + delta * delta * (count * share);
    count += 4.0;
  }
  for (; row < end; row++) {
    let delta = vec4f(x[at]) - mean;
    at += lanes;
    let share = 1.0 / (count + 1.0);
    mean += delta * share;
    m2 += delta * delta * (count * share);
    count += 1.0;
  }
  means[i] = mean;
  m2s[i] = m2;
}
