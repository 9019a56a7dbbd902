// partials[split, c, kh, kw] = sum over the split's tiles of outputs (n, oh, ow) of dy[n, oh, ow, c] *
//   x[n, oh + kh dilation_h - pad_top, ow + kw dilation_w - pad_left, c]
// For 3x3 taps at stride 1, and channels in multiples of four. One thread owns four channels of one split, all nine
// taps. A tile is that of forward_depthwise.slide, outputs a dilation apart: the thread slides down its rows, keeps the
// last three rows of dy, and reads each row of x once: ten loads for 36 products. A split takes every splits-th tile.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, rows_per_split: u32, splits: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [n, height, width, channels / 4]
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>; // [n, out_height, out_width, channels / 4]
@group(0) @binding(2) var<storage, read_write> partials: array<f32>; // [splits, channels, 3, 3]
@group(0) @binding(3) var<uniform> params: Params;

const ROWS = 16u;

// Of four channels, one tap.
fn store(at: u32, sum: vec4f) {
  partials[at] = sum.x;
  partials[at + 9u] = sum.y;
  partials[at + 18u] = sum.z;
  partials[at + 27u] = sum.w;
}

@compute @workgroup_size(64)
fn grad_weight_depthwise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.cout / 4u;
  let lane = i % lanes;
  let split = i / lanes;
  if (split >= params.splits) { return; }
  let across = (params.out_width + 4u * params.dilation_w - 1u) / (4u * params.dilation_w) * params.dilation_w;
  let down = (params.out_height + ROWS * params.dilation_h - 1u) / (ROWS * params.dilation_h) * params.dilation_h;
  let step = i32(params.dilation_w);
  let hop = step * i32(lanes);
  let width = i32(params.width);
  let out_width = i32(params.out_width);
  var s00 = vec4f();
  var s01 = vec4f();
  var s02 = vec4f();
  var s10 = vec4f();
  var s11 = vec4f();
  var s12 = vec4f();
  var s20 = vec4f();
  var s21 = vec4f();
  var s22 = vec4f();
  for (var tile = split; tile < params.n * down * across; tile += params.splits) {
    let row_tile = tile / across;
    let column_tile = tile % across;
    let image = row_tile / down;
    let row_phase = row_tile % down;
    let ow = i32(column_tile / params.dilation_w * 4u * params.dilation_w + column_tile % params.dilation_w);
    let first_row = row_phase / params.dilation_h * ROWS * params.dilation_h + row_phase % params.dilation_h;
    let end = i32(min(params.out_height, first_row + ROWS * params.dilation_h));
    let ix = ow - i32(params.pad_left);
    // Of the two rows of dy before this one:
    var b0 = vec4f();
    var b1 = vec4f();
    var b2 = vec4f();
    var b3 = vec4f();
    var c0 = vec4f();
    var c1 = vec4f();
    var c2 = vec4f();
    var c3 = vec4f();
    var iy = i32(first_row) - i32(params.pad_top);
    for (var oy = i32(first_row); oy < end + 2 * i32(params.dilation_h); oy += i32(params.dilation_h)) {
      var a0 = vec4f();
      var a1 = vec4f();
      var a2 = vec4f();
      var a3 = vec4f();
      if (oy < end) {
        let at = ((i32(image * params.out_height) + oy) * out_width + ow) * i32(lanes) + i32(lane);
        if (ow < out_width) { a0 = vec4f(dy[at]); }
        if (ow + step < out_width) { a1 = vec4f(dy[at + hop]); }
        if (ow + 2 * step < out_width) { a2 = vec4f(dy[at + 2 * hop]); }
        if (ow + 3 * step < out_width) { a3 = vec4f(dy[at + 3 * hop]); }
      }
      if (iy >= 0 && iy < i32(params.height)) {
        var x0 = vec4f();
        var x1 = vec4f();
        var x2 = vec4f();
        var x3 = vec4f();
        var x4 = vec4f();
        var x5 = vec4f();
        let at = ((i32(image * params.height) + iy) * width + ix) * i32(lanes) + i32(lane);
        if (ix >= 0 && ix < width) { x0 = vec4f(x[at]); }
        if (ix + step >= 0 && ix + step < width) { x1 = vec4f(x[at + hop]); }
        if (ix + 2 * step >= 0 && ix + 2 * step < width) { x2 = vec4f(x[at + 2 * hop]); }
        if (ix + 3 * step >= 0 && ix + 3 * step < width) { x3 = vec4f(x[at + 3 * hop]); }
        if (ix + 4 * step >= 0 && ix + 4 * step < width) { x4 = vec4f(x[at + 4 * hop]); }
        if (ix + 5 * step >= 0 && ix + 5 * step < width) { x5 = vec4f(x[at + 5 * hop]); }
        s00 += (x0 * a0 + x1 * a1) + (x2 * a2 + x3 * a3);
        s01 += (x1 * a0 + x2 * a1) + (x3 * a2 + x4 * a3);
        s02 += (x2 * a0 + x3 * a1) + (x4 * a2 + x5 * a3);
        s10 += (x0 * b0 + x1 * b1) + (x2 * b2 + x3 * b3);
        s11 += (x1 * b0 + x2 * b1) + (x3 * b2 + x4 * b3);
        s12 += (x2 * b0 + x3 * b1) + (x4 * b2 + x5 * b3);
        s20 += (x0 * c0 + x1 * c1) + (x2 * c2 + x3 * c3);
        s21 += (x1 * c0 + x2 * c1) + (x3 * c2 + x4 * c3);
        s22 += (x2 * c0 + x3 * c1) + (x4 * c2 + x5 * c3);
      }
      c0 = b0;
      c1 = b1;
      c2 = b2;
      c3 = b3;
      b0 = a0;
      b1 = a1;
      b2 = a2;
      b3 = a3;
      iy += i32(params.dilation_h);
    }
  }
  let to = (split * params.cout + 4u * lane) * 9u;
  store(to, s00);
  store(to + 1u, s01);
  store(to + 2u, s02);
  store(to + 3u, s10);
  store(to + 4u, s11);
  store(to + 5u, s12);
  store(to + 6u, s20);
  store(to + 7u, s21);
  store(to + 8u, s22);
}
