// dx[n, ih, iw, c] as in grad_input_vec4.wgsl, for channel counts that are not multiples of 4.
// One thread owns 4 pixels and up to 4 input channels of one group; the last tile of a group repeats its last channel
// instead of testing, and does not store it twice.
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

fn store(pixel: u32, c: u32, count: u32, value: vec4f) {
  let at = pixel * params.cin + c;
  dx[at] = T(value.x);
  if (count > 1u) { dx[at + 1u] = T(value.y); }
  if (count > 2u) { dx[at + 2u] = T(value.z); }
  if (count > 3u) { dx[at + 3u] = T(value.w); }
}

@compute @workgroup_size(256)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let group_cin = params.cin / params.groups;
  let group_cout = params.cout / params.groups;
  let group_tiles = (group_cin + 3u) / 4u;
  let channel_tiles = params.groups * group_tiles;
  let rows = (params.height + params.stride_h - 1u) / params.stride_h; // of one phase, as columns
  let columns = (params.width + params.stride_w - 1u) / params.stride_w;
  let tiles = (params.n * rows * columns + 3u) / 4u; // of one phase
  let phase = (i / channel_tiles) / tiles;
  if (phase >= params.stride_h * params.stride_w) { return; }
  let phase_h = phase / params.stride_w;
  let phase_w = phase % params.stride_w;
  let pixel = 4u * ((i / channel_tiles) % tiles);
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
  let group = (i % channel_tiles) / group_tiles;
  let group_c = 4u * (i % group_tiles);
  let count = min(4u, group_cin - group_c);
  let channels = group_c + min(vec4u(0u, 1u, 2u, 3u), vec4u(count - 1u));
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
      let at = select(vec4u(), outputs * params.cout + group * group_cout, inside);
      let keep = select(vec4f(), vec4f(1.0), inside);
      var weights = channels + group * group_cout * pitch + (kh * params.kw + kw) * group_cin;
      for (var o = 0u; o < group_cout; o++) {
        let w0 = vec4f(f32(w[weights.x]), f32(w[weights.y]), f32(w[weights.z]), f32(w[weights.w]));
        acc0 += keep.x * f32(dy[at.x + o]) * w0;
        acc1 += keep.y * f32(dy[at.y + o]) * w0;
        acc2 += keep.z * f32(dy[at.z + o]) * w0;
        acc3 += keep.w * f32(dy[at.w + o]) * w0;
        weights += pitch;
      }
    }
  }
  let inputs = (images * params.height + ih) * params.width + iw;
  let c = group * group_cin + group_c;
  if (exists.x) { store(inputs.x, c, count, acc0); }
  if (exists.y) { store(inputs.y, c, count, acc1); }
  if (exists.z) { store(inputs.z, c, count, acc2); }
  if (exists.w) { store(inputs.w, c, count, acc3); }
}
