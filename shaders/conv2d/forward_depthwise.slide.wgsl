// y[n, oh, ow, c] = relu(residual[n, oh, ow, c] + bias[c] + sum over kh, kw < 3 of
//   x[n, oh + kh dilation_h - pad_top, ow + kw dilation_w - pad_left, c] * w[c, kh, kw])
// For 3x3 taps at stride 1, and channels in multiples of four. One thread owns four channels of a tile of outputs that
// lie a dilation apart, four columns and up to ROWS rows: whatever the dilation, such outputs share their inputs. It
// slides down the input rows: each is read once, six vectors of it, and feeds the three output rows in flight. So an
// output costs about two loads instead of nine, and its weights stay in registers.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, has_bias: u32, has_residual: u32, relu: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [n, height, width, channels / 4]
@group(0) @binding(1) var<storage, read> w: array<T>; // [channels, 3, 3]
@group(0) @binding(2) var<storage, read> bias: array<vec4<T>>; // [channels / 4]
@group(0) @binding(3) var<storage, read> residual: array<vec4<T>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<T>>; // [n, out_height, out_width, channels / 4]
@group(0) @binding(5) var<uniform> params: Params;

const ROWS = 8u;

// Of four channels, one tap.
fn weight(at: u32) -> vec4f {
  return vec4f(f32(w[at]), f32(w[at + 9u]), f32(w[at + 18u]), f32(w[at + 27u]));
}

// Adds what follows the convolution and stores.
fn store(at: u32, sum: vec4f) {
  var v = sum;
  if (params.has_residual != 0u) { v += vec4f(residual[at]); }
  if (params.relu != 0u) { v = max(v, vec4f()); }
  y[at] = vec4<T>(v);
}

@compute @workgroup_size(64)
fn forward_depthwise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.cout / 4u;
  let across = (params.out_width + 4u * params.dilation_w - 1u) / (4u * params.dilation_w); // tiles of one phase
  let down = (params.out_height + ROWS * params.dilation_h - 1u) / (ROWS * params.dilation_h);
  let lane = i % lanes;
  let tile = i / lanes;
  let column_tile = tile % (across * params.dilation_w);
  let row_tile = tile / (across * params.dilation_w);
  let image = row_tile / (down * params.dilation_h);
  if (image >= params.n) { return; }
  let row_phase = row_tile % (down * params.dilation_h);
  let columns = vec4u(0u, 1u, 2u, 3u) * params.dilation_w
    + column_tile / params.dilation_w * 4u * params.dilation_w + column_tile % params.dilation_w;
  let first_row = row_phase / params.dilation_h * ROWS * params.dilation_h + row_phase % params.dilation_h;
  if (columns.x >= params.out_width || first_row >= params.out_height) { return; }

  let w00 = weight(36u * lane);
  let w01 = weight(36u * lane + 1u);
  let w02 = weight(36u * lane + 2u);
  let w10 = weight(36u * lane + 3u);
  let w11 = weight(36u * lane + 4u);
  let w12 = weight(36u * lane + 5u);
  let w20 = weight(36u * lane + 6u);
  let w21 = weight(36u * lane + 7u);
  let w22 = weight(36u * lane + 8u);
  var start = vec4f();
  if (params.has_bias != 0u) { start = vec4f(bias[lane]); }

  let ix = i32(columns.x) - i32(params.pad_left);
  let step = i32(params.dilation_w);
  let width = i32(params.width);
  // Three output rows in flight: a takes its last taps from this input row, b its middle and c its first ones.
  var a0 = start;
  var a1 = start;
  var a2 = start;
  var a3 = start;
  var b0 = start;
  var b1 = start;
  var b2 = start;
  var b3 = start;
  var iy = i32(first_row) - i32(params.pad_top);
  var oy = i32(first_row) - 2 * i32(params.dilation_h);
  let last = i32(min(params.out_height, first_row + ROWS * params.dilation_h));
  for (; oy < last; oy += i32(params.dilation_h)) {
    var x0 = vec4f();
    var x1 = vec4f();
    var x2 = vec4f();
    var x3 = vec4f();
    var x4 = vec4f();
    var x5 = vec4f();
    if (iy >= 0 && iy < i32(params.height)) {
      let row = (i32(image * params.height) + iy) * width;
      let at = (row + ix) * i32(lanes) + i32(lane);
      let hop = step * i32(lanes);
      if (ix >= 0 && ix < width) { x0 = vec4f(x[at]); }
      if (ix + step >= 0 && ix + step < width) { x1 = vec4f(x[at + hop]); }
      if (ix + 2 * step >= 0 && ix + 2 * step < width) { x2 = vec4f(x[at + 2 * hop]); }
      if (ix + 3 * step >= 0 && ix + 3 * step < width) { x3 = vec4f(x[at + 3 * hop]); }
      if (ix + 4 * step >= 0 && ix + 4 * step < width) { x4 = vec4f(x[at + 4 * hop]); }
      if (ix + 5 * step >= 0 && ix + 5 * step < width) { x5 = vec4f(x[at + 5 * hop]); }
    }
    if (oy >= i32(first_row)) {
      let to = ((image * params.out_height + u32(oy)) * params.out_width + columns) * lanes + lane;
      store(to.x, a0 + x0 * w20 + x1 * w21 + x2 * w22);
      if (columns.y < params.out_width) { store(to.y, a1 + x1 * w20 + x2 * w21 + x3 * w22); }
      if (columns.z < params.out_width) { store(to.z, a2 + x2 * w20 + x3 * w21 + x4 * w22); }
      if (columns.w < params.out_width) { store(to.w, a3 + x3 * w20 + x4 * w21 + x5 * w22); }
    }
    a0 = b0 + x0 * w10 + x1 * w11 + x2 * w12;
    a1 = b1 + x1 * w10 + x2 * w11 + x3 * w12;
    a2 = b2 + x2 * w10 + x3 * w11 + x4 * w12;
    a3 = b3 + x3 * w10 + x4 * w11 + x5 * w12;
    b0 = start + x0 * w00 + x1 * w01 + x2 * w02;
    b1 = start + x1 * w00 + x2 * w01 + x3 * w02;
    b2 = start + x2 * w00 + x3 * w01 + x4 * w02;
    b3 = start + x3 * w00 + x4 * w01 + x5 * w02;
    iy += i32(params.dilation_h);
  }
}
