// What grad_input_relu needs of each channel, in one buffer, since eight are the most that a kernel may bind:
// factors = mean, gamma * rstd, beta, dbeta / total, rstd * dgamma / total. One thread per channel.
struct Params { channels: u32, total: u32 }
@group(0) @binding(0) var<storage, read> gamma: array<f32>; // [channels]
@group(0) @binding(1) var<storage, read> beta: array<f32>; // [channels]
@group(0) @binding(2) var<storage, read> mean: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> rstd: array<f32>; // [channels]
@group(0) @binding(4) var<storage, read> dgamma: array<f32>; // [channels]
@group(0) @binding(5) var<storage, read> dbeta: array<f32>; // [channels]
@group(0) @binding(6) var<storage, read_write> factors: array<f32>; // [5, channels]
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(256)
fn pack_factors(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let c = id.x + id.y * groups.x * 256u;
  if (c >= params.channels) { return; }
  factors[c] = mean[c];
  factors[params.channels + c] = rstd[c] * gamma[c];
  factors[2u * params.channels + c] = beta[c];
  factors[3u * params.channels + c] = dbeta[c] / f32(params.total);
  factors[4u * params.channels + c] = rstd[c] * dgamma[c] / f32(params.total);
}
