// dgamma[n, c] = sum over t of dgammas[n, t, c], in order, and dbeta alike. One thread per n and channel.
struct Params { outer: u32, terms: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> dgammas: array<f32>; // [outer, terms, channels]
@group(0) @binding(1) var<storage, read> dbetas: array<f32>; // [outer, terms, channels]
@group(0) @binding(2) var<storage, read_write> dgamma: array<f32>; // [outer, channels]
@group(0) @binding(3) var<storage, read_write> dbeta: array<f32>; // [outer, channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn merge_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.outer * params.channels) { return; }
  var at = i / params.channels * params.terms * params.channels + i % params.channels;
  var product = 0.0;
  var total = 0.0;
  for (var t = 0u; t < params.terms; t++) {
    product += dgammas[at];
    total += dbetas[at];
    at += params.channels;
  }
  dgamma[i] = product;
  dbeta[i] = total;
}
