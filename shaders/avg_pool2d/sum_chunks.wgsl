// sums[n, chunk, c] = sum of x[n, row, c] over the rows of a chunk. One thread owns one channel of one chunk;
// neighbours own neighbouring channels.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32, chunks: u32, chunkRows: u32 }
@group(0) @binding(0) var<storage, read> x: array<T>; // [images, rows, channels]
@group(0) @binding(1) var<storage, read_write> sums: array<f32>; // [images, chunks, channels]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn sum_chunks(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let item = i / lanes;
  let image = item / params.chunks;
  if (image >= params.images) { return; }
  let start = item % params.chunks * params.chunkRows;
  let end = min(start + params.chunkRows, params.rows);
  var at = (image * params.rows + start) * lanes + i % lanes;
  var sum = 0.0;
  for (var row = start; row < end; row++) {
    sum += f32(x[at]);
    at += lanes;
  }
  sums[i] = sum;
}
