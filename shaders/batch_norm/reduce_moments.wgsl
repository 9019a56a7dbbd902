// Per chunk of rows and channel: how many rows, their mean, and m2 = sum over rows of (x[row, c] - mean)^2.
// One thread owns one channel of one chunk; neighbours own neighbouring channels, so every load is coalesced and no
// barrier is needed. Four rows at a time are reduced in registers (mean first, then deviations) and merged into the
// running moments by Chan's formula: one division per four rows, and never E[x^2] - E[x]^2.
alias T = f32;
struct Params { rows: u32, channels: u32, chunks: u32, chunkRows: u32, first: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [rows, channels]
@group(0) @binding(1) var<storage, read_write> counts: array<f32>; // [first + chunks, ...]
@group(0) @binding(2) var<storage, read_write> means: array<f32>; // [first + chunks, channels]
@group(0) @binding(3) var<storage, read_write> m2s: array<f32>; // [first + chunks, channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let chunk = i / lanes;
  let lane = i % lanes;
  if (chunk >= params.chunks) { return; }
  let start = chunk * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  var row = start;
  var at = start * lanes + lane;
  var count = 0.0;
  var mean = 0.0;
  var m2 = 0.0;
  for (; row + 4u <= end; row += 4u) {
    let a = f32(x[at]);
    let b = f32(x[at + lanes]);
    let c = f32(x[at + 2u * lanes]);
    let d = f32(x[at + 3u * lanes]);
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
    let delta = f32(x[at]) - mean;
    at += lanes;
    let share = 1.0 / (count + 1.0);
    mean += delta * share;
    m2 += delta * delta * (count * share);
    count += 1.0;
  }
  let to = (params.first + chunk) * lanes + lane;
  means[to] = mean;
  m2s[to] = m2;
  if (lane == 0u) { counts[params.first + chunk] = count; }
}
