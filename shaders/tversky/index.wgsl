// From sums[u, k] = (TP, FP, true pixels) to the loss and slopes[u, k] = its derivatives by the probability of a true and
// of a false pixel of class k in unit u. A cell is what one index stands for: a unit and class, or (micro) a unit.
//   D = TP + alpha FP + beta FN + smooth_den, TI = (TP + smooth_num) / D, dTI/dtrue = (1 - TI (1 - beta)) / D,
//   dTI/dfalse = -TI alpha / D; cell loss 1 - TI or -log TI, to the power `exponent`; loss = weighted mean over cells.
// One workgroup: lanes stride over the cells twice, first for the mean and then for the slopes; few cells, little work.
struct Params {
  units: u32, classes: u32, micro: u32, alpha: f32, beta: f32, smooth_num: f32, smooth_den: f32, exponent: f32,
  mean_first: u32, log_loss: u32, empty: u32,
}
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> slopes: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

const DENOMINATOR = 1e-7;
const LOGARITHM = 1e-7;
// The power's slope is infinite at 0 where the exponent is below 1.
const FOCAL = 1e-6;
const EMPTY_ZERO = 1u;
const EMPTY_SKIP = 2u;

var<workgroup> lanes: array<vec2f, 64>;

struct Cell { weight: f32, loss: f32, hit: f32, miss: f32 }

// x^exponent and its derivative; a plain loss (exponent 1) is not clamped.
fn focal(x: f32) -> vec2f {
  if (params.exponent == 1.0) { return vec2f(x, 1.0); }
  let base = max(x, FOCAL);
  let power = pow(base, params.exponent);
  return vec2f(power, select(0.0, params.exponent * power / base, x > FOCAL));
}

fn cell_at(i: u32) -> Cell {
  var s = vec3f();
  var weight = 1.0;
  if (params.micro == 1u) {
    for (var k = 0u; k < params.classes; k++) {
      let at = (i * params.classes + k) * 3u;
      if (weights[k] > 0.0) { s += vec3f(sums[at], sums[at + 1u], sums[at + 2u]); }
    }
  } else {
    s = vec3f(sums[3u * i], sums[3u * i + 1u], sums[3u * i + 2u]);
    weight = weights[i % params.classes];
  }
  if (weight == 0.0 || (s.z == 0.0 && params.empty == EMPTY_SKIP)) { return Cell(0.0, 0.0, 0.0, 0.0); }
  if (s.z == 0.0 && params.empty == EMPTY_ZERO) { return Cell(weight, 0.0, 0.0, 0.0); }
  // 1 - TI from the errors, not from TI: it keeps its digits near a perfect prediction.
  let wrong = params.alpha * s.y + params.beta * max(s.z - s.x, 0.0) + params.smooth_den;
  let full = s.x + wrong;
  let free = full >= DENOMINATOR; // a clamped denominator is a constant
  let den = max(full, DENOMINATOR);
  let ti = (s.x + params.smooth_num) / den;
  var value = select(1.0 - ti, (wrong - params.smooth_num) / den, free);
  var slope = -1.0;
  if (params.log_loss == 1u) {
    value = -log(max(ti, LOGARITHM));
    slope = select(0.0, -1.0 / max(ti, LOGARITHM), ti > LOGARITHM);
  }
  if (params.mean_first == 0u) {
    let power = focal(value);
    value = power.x;
    slope *= power.y;
  }
  let hit = select(1.0, 1.0 - ti * (1.0 - params.beta), free) / den;
  let miss = select(0.0, -ti * params.alpha, free) / den;
  return Cell(weight, value, slope * hit, slope * miss);
}

@compute @workgroup_size(64)
fn index(@builtin(local_invocation_index) t: u32) {
  let per_unit = select(params.classes, 1u, params.micro == 1u);
  let cells = params.units * per_unit;
  var mine = vec2f();
  for (var i = t; i < cells; i += 64u) {
    let cell = cell_at(i);
    mine += vec2f(cell.weight * cell.loss, cell.weight);
  }
  lanes[t] = mine;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (t < half) { lanes[t] += lanes[t + half]; }
    workgroupBarrier();
  }
  let total = lanes[0].y;
  var result = vec2f(0.0, 1.0);
  if (total > 0.0) {
    result.x = lanes[0].x / total;
    if (params.mean_first == 1u) { result = focal(result.x); }
  }
  if (t == 0u) { loss[0] = result.x; }
  let scale = select(0.0, result.y / max(total, 1e-30), total > 0.0);
  for (var i = t; i < cells; i += 64u) {
    let cell = cell_at(i);
    let by = scale * cell.weight;
    if (params.micro == 0u) {
      slopes[2u * i] = by * cell.hit;
      slopes[2u * i + 1u] = by * cell.miss;
      continue;
    }
    for (var k = 0u; k < params.classes; k++) {
      let at = 2u * (i * params.classes + k);
      let counts = select(0.0, by, weights[k] > 0.0);
      slopes[at] = counts * cell.hit;
      slopes[at + 1u] = counts * cell.miss;
    }
  }
}
