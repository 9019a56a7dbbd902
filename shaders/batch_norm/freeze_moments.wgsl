// mean[c] = runningMean[c], rstd[c] = 1 / sqrt(runningVar[c] + eps): copies that a later update does not reach.
// One thread per channel.
struct Params { channels: u32, eps: f32 }
@group(0) @binding(0) var<storage, read> runningMean: array<f32>; // [channels]
@group(0) @binding(1) var<storage, read> runningVar: array<f32>; // [channels]
@group(0) @binding(2) var<storage, read_write> mean: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>; // [channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn freeze_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let c = id.x + id.y * groups.x * 256u;
  if (c >= params.channels) { return; }
  mean[c] = runningMean[c];
  rstd[c] = 1.0 / sqrt(runningVar[c] + params.eps);
}
