// dx[n, ih, iw, c] = sum over kh, kw < 3 of dy[n, ih + pad_top - kh dilation_h, iw + pad_left - kw dilation_w, c]
//   * w[c, kh, kw]
// forward_depthwise.slide with dy in the place of x, and the taps in the opposite order: those that lie before a pixel
// come last. For 3x3 taps at stride 1, as many outputs as inputs, and channels in multiples of four.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<vec4<T>>; // [n, out_height, out_width, channels / 4]
@group(0) @binding(1) var<storage, read> w: array<T>; // [channels, 3, 3]
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<T>>; // [n, height, width, channels / 4]
@group(0) @binding(3) var<uniform> params: Params;

const ROWS = 8u;

// Of four channels, one tap.
fn weight(at: u32) -> vec4f {
  return vec4f(f32(w[at]), f32(w[at + 9u]), f32(w[at + 18u]), f32(w[at + 27u]));
}

@compute @workgroup_size(64)
fn grad_input_depthwise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.cin / 4u;
  let across = (params.width + 4u * params.dilation_w - 1u) / (4u * params.dilation_w); // tiles of one phase
  let down = (params.height + ROWS * params.dilation_h - 1u) / (ROWS * params.dilation_h);
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
  if (columns.x >= params.width || first_row >= params.height) { return; }

  let w00 = weight(36u * lane + 8u);
  let w01 = weight(36u * lane + 7u);
  let w02 = weight(36u * lane + 6u);
  let w10 = weight(36u * lane + 5u);
  let w11 = weight(36u * lane + 4u);
  let w12 = weight(36u * lane + 3u);
  let w20 = weight(36u * lane + 2u);
  let w21 = weight(36u * lane + 1u);
  let w22 = weight(36u * lane);

  let ox = i32(columns.x) + i32(params.pad_left) - 2 * i32(params.dilation_w);
  let step = i32(params.dilation_w);
  let width = i32(params.out_width);
  // Three output rows in flight: a takes its last taps from this input row, b its middle and c its first ones.
  var a0 = vec4f();
  var a1 = vec4f();
  var a2 = vec4f();
  var a3 = vec4f();
  var b0 = vec4f();
  var b1 = vec4f();
  var b2 = vec4f();
  var b3 = vec4f();
  var oy = i32(first_row) + i32(params.pad_top) - 2 * i32(params.dilation_h);
  var iy = i32(first_row) - 2 * i32(params.dilation_h);
  let last = i32(min(params.height, first_row + ROWS * params.dilation_h));
  for (; iy < last; iy += i32(params.dilation_h)) {
    var d0 = vec4f();
    var d1 = vec4f();
    var d2 = vec4f();
    var d3 = vec4f();
    var d4 = vec4f();
    var d5 = vec4f();
    if (oy >= 0 && oy < i32(params.out_height)) {
      let row = (i32(image * params.out_height) + oy) * width;
      let at = (row + ox) * i32(lanes) + i32(lane);
      let hop = step * i32(lanes);
      if (ox >= 0 && ox < width) { d0 = vec4f(dy[at]); }
      if (ox + step >= 0 && ox + step < width) { d1 = vec4f(dy[at + hop]); }
      if (ox + 2 * step >= 0 && ox + 2 * step < width) { d2 = vec4f(dy[at + 2 * hop]); }
      if (ox + 3 * step >= 0 && ox + 3 * step < width) { d3 = vec4f(dy[at + 3 * hop]); }
      if (ox + 4 * step >= 0 && ox + 4 * step < width) { d4 = vec4f(dy[at + 4 * hop]); }
      if (ox + 5 * step >= 0 && ox + 5 * step < width) { d5 = vec4f(dy[at + 5 * hop]); }
    }
    if (iy >= i32(first_row)) {
      let to = ((image * params.height + u32(iy)) * params.width + columns) * lanes + lane;
      dx[to.x] = vec4<T>(a0 + d0 * w20 + d1 * w21 + d2 * w22);
      if (columns.y < params.width) { dx[to.y] = vec4<T>(a1 + d1 * w20 + d2 * w21 + d3 * w22); }
      if (columns.z < params.width) { dx[to.z] = vec4<T>(a2 + d2 * w20 + d3 * w21 + d4 * w22); }
      if (columns.w < params.width) { dx[to.w] = vec4<T>(a3 + d3 * w20 + d4 * w21 + d5 * w22); }
    }
    a0 = b0 + d0 * w10 + d1 * w11 + d2 * w12;
    a1 = b1 + d1 * w10 + d2 * w11 + d3 * w12;
    a2 = b2 + d2 * w10 + d3 * w11 + d4 * w12;
    a3 = b3 + d3 * w10 + d4 * w11 + d5 * w12;
    b0 = d0 * w00 + d1 * w01 + d2 * w02;
    b1 = d1 * w00 + d2 * w01 + d3 * w02;
    b2 = d2 * w00 + d3 * w01 + d4 * w02;
    b3 = d3 * w00 + d4 * w01 + d5 * w02;
    oy += i32(params.dilation_h);
  }
}
