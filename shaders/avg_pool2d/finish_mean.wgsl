// y[n, c] = sum over chunks of sums[n, chunk, c] / rows, in order. One thread per image and channel.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32, chunks: u32 }
@group(0) @binding(0) var<storage, read> sums: array<f32>; // [images, chunks, channels]
@group(0) @binding(1) var<storage, read_write> y: array<T>; // [images, channels]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn finish_mean(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.images * params.channels) { return; }
  var at = i / params.channels * params.chunks * params.channels + i % params.channels;
  var sum = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    sum += sums[at];
    at += params.channels;
  }
  y[i] = T(sum / f32(params.rows));
}
