// y = total + L / (2 v) + penalty, weight = 1 / (2 v): v = c[index]^2 and penalty ln(1 + v), or (kendall) v = exp(c[index])
// and penalty ln(v) / 2, v no less than 1e-4. One thread: there is one number.
struct Params { index: u32, kendall: u32, first: u32 }
@group(0) @binding(0) var<storage, read> total: array<f32>;
@group(0) @binding(1) var<storage, read> loss: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

const LOG_SMALLEST = -9.210340371976182;
const LARGEST_EXPONENT = 80.0; // exp stays finite

@compute @workgroup_size(1)
fn add_term() {
  let parameter = c[params.index];
  var variance = max(parameter * parameter, 1e-4);
  var penalty = log(1.0 + variance);
  if (params.kendall == 1u) {
    let s = max(parameter, LOG_SMALLEST);
    variance = exp(min(s, LARGEST_EXPONENT));
    penalty = 0.5 * s;
  }
  let before = select(total[0], 0.0, params.first == 1u);
  y[0] = before + 0.5 * loss[0] / variance + penalty;
  weight[0] = 0.5 / variance;
}
