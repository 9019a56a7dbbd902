// Merges the chunks of one image and channel in order by Chan's formula: count = na + nb, d = mean_b - mean_a,
// mean = mean_a + d * nb / count, m2 = m2_a + m2_b + d^2 * na * nb / count. One thread per image and channel.
struct Params { images: u32, rows: u32, channels: u32, chunks: u32, chunkRows: u32 }
@group(0) @binding(0) var<storage, read> means: array<f32>; // [images, chunks, channels]
@group(0) @binding(1) var<storage, read> m2s: array<f32>; // [images, chunks, channels]
@group(0) @binding(2) var<storage, read_write> mean: array<f32>; // [images, channels]
@group(0) @binding(3) var<storage, read_write> m2: array<f32>; // [images, channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn merge_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.images * params.channels) { return; }
  var at = i / params.channels * params.chunks * params.channels + i % params.channels;
  var count = 0.0;
  var centre = 0.0;
  var sum = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let more = f32(min(params.chunkRows, params.rows - chunk * params.chunkRows));
    let delta = means[at] - centre;
    let share = more / (count + more);
    centre += delta * share;
    sum += m2s[at] + delta * delta * (count * share);
    count += more;
    at += params.channels;
  }
  mean[i] = centre;
  m2[i] = sum;
}
