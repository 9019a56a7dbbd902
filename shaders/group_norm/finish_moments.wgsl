// Merges the channels of a group by Chan's formula for equal counts; rstd = 1 / sqrt(m2 / (rows * groupSize) + eps).
// One thread per image and channel: every channel works out its group's answer, the same for all of them.
struct Params { images: u32, rows: u32, channels: u32, groupSize: u32, eps: f32 }
@group(0) @binding(0) var<storage, read> means: array<f32>; // [images, channels]
@group(0) @binding(1) var<storage, read> m2s: array<f32>; // [images, channels]
@group(0) @binding(2) var<storage, read_write> mean: array<f32>; // [images, channels]
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>; // [images, channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn finish_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.images * params.channels) { return; }
  let first = i - i % params.groupSize; // groups divide the channels, so they do not cross images
  let rows = f32(params.rows);
  var centre = 0.0;
  var m2 = 0.0;
  for (var j = 0u; j < params.groupSize; j++) {
    let delta = means[first + j] - centre;
    let share = 1.0 / f32(j + 1u);
    centre += delta * share;
    m2 += m2s[first + j] + delta * delta * (rows * f32(j) * share);
  }
  mean[i] = centre;
  rstd[i] = 1.0 / sqrt(m2 / (rows * f32(params.groupSize)) + params.eps);
}
