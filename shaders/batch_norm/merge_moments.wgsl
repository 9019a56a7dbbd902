// Merges fanIn consecutive chunks into one, in order, by Chan's formula: count = na + nb, d = mean_b - mean_a,
// mean = mean_a + d * nb / count, m2 = m2_a + m2_b + d^2 * na * nb / count. One thread per merged chunk and channel.
struct Params { channels: u32, chunks: u32, fanIn: u32 }
@group(0) @binding(0) var<storage, read> counts: array<f32>; // [chunks]
@group(0) @binding(1) var<storage, read> means: array<f32>; // [chunks, channels]
@group(0) @binding(2) var<storage, read> m2s: array<f32>; // [chunks, channels]
@group(0) @binding(3) var<storage, read_write> mergedCounts: array<f32>; // [ceil(chunks / fanIn)]
@group(0) @binding(4) var<storage, read_write> mergedMeans: array<f32>; // [ceil(chunks / fanIn), channels]
@group(0) @binding(5) var<storage, read_write> mergedM2s: array<f32>; // [ceil(chunks / fanIn), channels]
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(256)
fn merge_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let part = i / params.channels;
  let c = i % params.channels;
  let start = part * params.fanIn;
  if (start >= params.chunks) { return; }
  var count = 0.0;
  var mean = 0.0;
  var m2 = 0.0;
  for (var chunk = start; chunk < min(start + params.fanIn, params.chunks); chunk++) {
    let more = counts[chunk];
    let delta = means[chunk * params.channels + c] - mean;
    let share = more / (count + more);
    mean += delta * share;
    m2 += m2s[chunk * params.channels + c] + delta * delta * (count * share);
    count += more;
  }
  mergedMeans[i] = mean;
  mergedM2s[i] = m2;
  if (c == 0u) { mergedCounts[part] = count; }
}
