// partials[t] = sum of w[i] (max(z, 0) - t z + log(1 + exp(-|z|))) over i = t, t + threads, t + 2 threads, …
// One thread owns such a set of elements and adds them in blocks to keep the rounding small. t and w are read
// only where they are given.
struct Params { count: u32, threads: u32, block: u32, given: u32, constant: f32, weighted: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

// log(1 + e) for e in [0, 1]; the series keeps the digits that 1 + e drops.
fn log1p(e: f32) -> f32 {
  return select(log(1.0 + e), e * (1.0 - e * (0.5 - e * (0.33333333 - e * 0.25))), e < 0.02);
}

fn element_loss(i: u32) -> f32 {
  let z = logits[i];
  var t = params.constant;
  if (params.given == 1u) { t = targets[i]; }
  var loss = max(z, 0.0) - t * z + log1p(exp(-abs(z)));
  if (params.weighted == 1u) { loss *= weights[i]; }
  return loss;
}

@compute @workgroup_size(256)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 256u;
  if (t >= params.threads) { return; }
  var total = 0.0;
  var i = t;
  while (i < params.count) {
    var part = 0.0;
    for (var k = 0u; k < params.block && i < params.count; k++) {
      part += element_loss(i);
      i += params.threads;
    }
    total += part;
  }
  partials[t] = total;
}
