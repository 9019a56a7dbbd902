// dx[n, ih, iw, c] = sum over kh, kw, o of c's group of dy[n, oh, ow, o] * w[o, kh, kw, c], where
//   oh stride_h + kh dilation_h - pad_top = ih, and ow likewise
// with cin / groups and cout / groups multiples of 4. One thread owns 4 pixels and 4 input channels, and gathers: 8
// vector loads feed 64 multiplications.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<T>>;
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

// acc + v.x w0 + v.y w1 + v.z w2 + v.w w3
fn accumulate(acc: vec4f, v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  var sum = acc;
  sum += v.x * w0;
  sum += v.y * w1;
  sum += v.z * w2;
  sum += v.w * w3;
  return sum;
}

@compute @workgroup_size(256)
fn grad_input_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let quads = params.cin / 4u;
  let c = i % quads; // in units of 4 channels, as is every index below
  let rows = (params.height + params.stride_h - 1u) / params.stride_h; // of one phase, as columns
  let columns = (params.width + params.stride_w - 1u) / params.stride_w;
  let tiles = (params.n * rows * columns + 3u) / 4u; // of one phase
  let phase = (i / quads) / tiles;
  if (phase >= params.stride_h * params.stride_w) { return; }
  let phase_h = phase / params.stride_w;
  let phase_w = phase % params.stride_w;
  let pixel = 4u * ((i / quads) % tiles);
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
  let cout = params.cout / 4u;
  let group_cin = quads / params.groups;
  let group_cout = cout / params.groups;
  let group = c / group_cin;
  let pitch = params.kh * params.kw * group_cin; // from one output channel's weights to the next one's
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
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
      let at = select(vec4u(), outputs * cout + group * group_cout, inside);
      let keep = select(vec4f(), vec4f(1.0), inside);
      var weights = group * group_cout * 4u * pitch + (kh * params.kw + kw) * group_cin + c % group_cin;
      for (var o = 0u; o < group_cout; o++) {
        let w0 = vec4f(w[weights]);
        let w1 = vec4f(w[weights + pitch]);
        let w2 = vec4f(w[weights + 2u * pitch]);
        let w3 = vec4f(w[weights + 3u * pitch]);
        acc0 = accumulate(acc0, keep.x * vec4f(dy[at.x + o]), w0, w1, w2, w3);
        acc1 = accumulate(acc1, keep.y * vec4f(dy[at.y + o]), w0, w1, w2, w3);
        acc2 = accumulate(acc2, keep.z * vec4f(dy[at.z + o]), w0, w1, w2, w3);
        acc3 = accumulate(acc3, keep.w * vec4f(dy[at.w + o]), w0, w1, w2, w3);
        weights += 4u * pitch;
      }
    }
  }
  let inputs = (images * params.height + ih) * params.width + iw;
  if (exists.x) { dx[inputs.x * quads + c] = vec4<T>(acc0); }
  if (exists.y) { dx[inputs.y * quads + c] = vec4<T>(acc1); }
  if (exists.z) { dx[inputs.z * quads + c] = vec4<T>(acc2); }
  if (exists.w) { dx[inputs.w * quads + c] = vec4<T>(acc3); }
}
