// dloss = dy / (2 v); dc[index] = dy r (2 / (1 + v) - L / v^2) with r = sign(c) sqrt(v), or (kendall) dy / 2 (1 - L / v);
// v as in add_term, so below its limit the slope is that at the limit. dc is 0 elsewhere. One thread: c is short.
struct Params { count: u32, index: u32, kendall: u32 }
@group(0) @binding(0) var<storage, read> loss: array<f32>;
@group(0) @binding(1) var<storage, read> c: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dc: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

const LOG_SMALLEST = -9.210340371976182;
const LARGEST_EXPONENT = 80.0;

@compute @workgroup_size(1)
fn grad_term() {
  let parameter = c[params.index];
  var variance = max(parameter * parameter, 1e-4);
  let root = select(1.0, -1.0, parameter < 0.0) * sqrt(variance);
  var slope = root * (2.0 / (1.0 + variance) - loss[0] / (variance * variance));
  if (params.kendall == 1u) {
    variance = exp(clamp(parameter, LOG_SMALLEST, LARGEST_EXPONENT));
    slope = 0.5 - 0.5 * loss[0] / variance;
  }
  for (var i = 0u; i < params.count; i++) { dc[i] = 0.0; }
  dc[params.index] = dy[0] * slope;
  dloss[0] = dy[0] * 0.5 / variance;
}
