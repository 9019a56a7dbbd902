// dlogits[i] = scale · dy · w[i] (sigmoid(z[i]) - t). One thread per element.
struct Params { count: u32, given: u32, constant: f32, weighted: u32, scale: f32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_logits(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let z = logits[i];
  let e = exp(-abs(z));
  let p = select(e, 1.0, z >= 0.0) / (1.0 + e);
  var t = params.constant;
  if (params.given == 1u) { t = targets[i]; }
  // 1 - p = sigmoid(-z) keeps its digits where p rounds to 1; it is exact for t = 1, the case where it matters
  var slope = p - t;
  if (t == 1.0) { slope = -select(1.0, e, z >= 0.0) / (1.0 + e); }
  if (params.weighted == 1u) { slope *= weights[i]; }
  dlogits[i] = params.scale * dy[0] * slope;
}
