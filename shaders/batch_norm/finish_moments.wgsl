// Merges all chunks of a channel by Chan's formula (see merge_moments), then
// rstd = 1 / sqrt(m2 / count + eps), runningMean = (1 - momentum) * runningMean + momentum * mean and
// runningVar = (1 - momentum) * runningVar + momentum * m2 / (count - 1). One thread per channel. count > 1.
struct Params { channels: u32, chunks: u32, momentum: f32, eps: f32 }
@group(0) @binding(0) var<storage, read> counts: array<f32>; // [chunks]
@group(0) @binding(1) var<storage, read> means: array<f32>; // [chunks, channels]
@group(0) @binding(2) var<storage, read> m2s: array<f32>; // [chunks, channels]
@group(0) @binding(3) var<storage, read_write> mean: array<f32>; // [channels]
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>; // [channels]
@group(0) @binding(5) var<storage, read_write> runningMean: array<f32>; // [channels]
@group(0) @binding(6) var<storage, read_write> runningVar: array<f32>; // [channels]
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(256)
fn finish_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let c = id.x + id.y * groups.x * 256u;
  if (c >= params.channels) { return; }
  var count = 0.0;
  var centre = 0.0;
  var m2 = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let more = counts[chunk];
    let delta = means[chunk * params.channels + c] - centre;
    let share = more / (count + more);
    centre += delta * share;
    m2 += m2s[chunk * params.channels + c] + delta * delta * (count * share);
    count += more;
  }
  mean[c] = centre;
  rstd[c] = 1.0 / sqrt(m2 / count + params.eps);
  let kept = 1.0 - params.momentum;
  runningMean[c] = kept * runningMean[c] + params.momentum * centre;
  runningVar[c] = kept * runningVar[c] + params.momentum * (m2 / (count - 1.0));
}
