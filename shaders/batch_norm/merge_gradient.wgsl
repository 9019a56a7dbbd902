// Sums fanIn consecutive chunks into one, in order. One thread per merged chunk and channel.
struct Params { channels: u32, chunks: u32, fanIn: u32 }
@group(0) @binding(0) var<storage, read> dgammas: array<f32>; // [chunks, channels]
@group(0) @binding(1) var<storage, read> dbetas: array<f32>; // [chunks, channels]
@group(0) @binding(2) var<storage, read_write> dgamma: array<f32>; // [ceil(chunks / fanIn), channels]
@group(0) @binding(3) var<storage, read_write> dbeta: array<f32>; // [ceil(chunks / fanIn), channels]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn merge_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let c = i % params.channels;
  let start = i / params.channels * params.fanIn;
  if (start >= params.chunks) { return; }
  var product = 0.0;
  var total = 0.0;
  for (var chunk = start; chunk < min(start + params.fanIn, params.chunks); chunk++) {
    product += dgammas[chunk * params.channels + c];
    total += dbetas[chunk * params.channels + c];
  }
  dgamma[i] = product;
  dbeta[i] = total;
}
