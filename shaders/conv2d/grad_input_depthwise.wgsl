// dx[n, ih, iw, c] = sum over kh, kw, m < cout / cin of dy[n, oh, ow, o] * w[o, kh, kw] with o = c (cout / cin) + m, where
//   oh stride_h + kh dilation_h - pad_top = ih, and ow likewise
// One thread owns 4 pixels of one input channel, and gathers. Neighbouring threads read neighbouring channels.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

// The input pixels of one thread lie stride apart, so that the same taps reach all of them: with ih = phase_h +
// stride_h u, the tap kh reaches row oh = u + (phase_h + pad_top - kh dilation_h) / stride_h, or none where that
// does not divide. This is the (n, u, v) that follows among pixels of one phase; n runs over the end after the last one.
fn next(at: vec3u, rows: u32, columns: u32) -> vec3u {
  var following = vec3u(at.x, at.y, at.z + 1u);
  if (following.z == columns) { following = vec3u(at.x, at.y + 1u, 0u); }
  if (following.y == rows) { following = vec3u(at.x + 1u, 0u, 0u); }
  return following;
}

@compute @workgroup_size(256)
fn grad_input_depthwise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let c = i % params.cin;
  let rows = (params.height + params.stride_h - 1u) / params.stride_h; // of one phase, as columns
  let columns = (params.width + params.stride_w - 1u) / params.stride_w;
  let tiles = (params.n * rows * columns + 3u) / 4u; // of one phase
  let phase = (i / params.cin) / tiles;
  if (phase >= params.stride_h * params.stride_w) { return; }
  let phase_h = phase / params.stride_w;
  let phase_w = phase % params.stride_w;
  let pixel = 4u * ((i / params.cin) % tiles);
  let row = pixel / columns;
  let p0 = vec3u(row / rows, row % rows, pixel % columns);
  let p1 = next(p0, rows, columns);
  let p2 = next(p1, rows, columns);
  let p3 = next(p2, rows, columns);
  let images = vec4u(p0.x, p1.x, p2.x, p3.x);
  let u = vec4u(p0.y, p1.y, p2.y, p3.y);
  let v = vec4u(p0.z, p1.z, p2.z, p3.z);
  let ih = phase_h + params.stride_h * u;
  let iw = phase_w + params.stride_w * v;
  let exists = (images < vec4u(params.n)) & (ih < vec4u(params.height)) & (iw < vec4u(params.width));
  let multiplier = params.cout / params.cin;
  let taps = params.kh * params.kw;
  var acc = vec4f();
  for (var kh = 0u; kh < params.kh; kh++) {
    let from_h = i32(phase_h + params.pad_top) - i32(kh * params.dilation_h);
    if (from_h % i32(params.stride_h) != 0) { continue; }
    let oh = vec4i(u) + from_h / i32(params.stride_h);
    let row_inside = exists & (oh >= vec4i()) & (oh < vec4i(i32(params.out_height)));
    if (!any(row_inside)) { continue; }
    for (var kw = 0u; kw < params.kw; kw++) {
      let from_w = i32(phase_w + params.pad_left) - i32(kw * params.dilation_w);
      if (from_w % i32(params.stride_w) != 0) { continue; }
      let ow = vec4i(v) + from_w / i32(params.stride_w);
      let inside = row_inside & (ow >= vec4i()) & (ow < vec4i(i32(params.out_width)));
      if (!any(inside)) { continue; }
      let outputs = (images * params.out_height + vec4u(oh)) * params.out_width + vec4u(ow);
      let at = select(vec4u(), outputs * params.cout + c * multiplier, inside);
      var weight = c * multiplier * taps + kh * params.kw + kw;
      for (var m = 0u; m < multiplier; m++) {
        let d = vec4f(f32(dy[at.x + m]), f32(dy[at.y + m]), f32(dy[at.z + m]), f32(dy[at.w + m]));
        acc += select(vec4f(), d, inside) * f32(w[weight]);
        weight += taps;
      }
    }
  }
  let inputs = ((images * params.height + ih) * params.width + iw) * params.cin + c;
  if (exists.x) { dx[inputs.x] = T(acc.x); }
  if (exists.y) { dx[inputs.y] = T(acc.y); }
  if (exists.z) { dx[inputs.z] = T(acc.z); }
  if (exists.w) { dx[inputs.w] = T(acc.w); }
}
