// y[n, oh, ow, o] = relu(residual[n, oh, ow, o] + bias[o] + sum over kh, kw of
//   x[n, oh stride_h + kh dilation_h - pad_top, ow stride_w + kw dilation_w - pad_left, o / (cout / cin)]
//   * w[o, kh, kw])
// One thread owns 4 consecutive pixels of one output channel: a weight is read once for all four, and neighbouring
// threads read neighbouring channels.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, has_bias: u32, has_residual: u32, relu: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> bias: array<T>;
@group(0) @binding(3) var<storage, read> residual: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<uniform> params: Params;

// Added to a row index: outside every map, whatever the tap.
const OUTSIDE = -1073741824;

// The (n, oh, ow) that follows in memory; n runs over the end after the last one.
fn next(at: vec3u) -> vec3u {
  var following = vec3u(at.x, at.y, at.z + 1u);
  if (following.z == params.out_width) { following = vec3u(at.x, at.y + 1u, 0u); }
  if (following.y == params.out_height) { following = vec3u(at.x + 1u, 0u, 0u); }
  return following;
}

// The input row under the first tap of an output pixel; outside the map where there is no such pixel.
fn first_row(at: vec3u) -> i32 {
  return select(OUTSIDE, i32(at.y * params.stride_h) - i32(params.pad_top), at.x < params.n);
}

// relu(sum + residual), where they are asked for
fn store(at: u32, sum: f32) {
  var v = sum;
  if (params.has_residual != 0u) { v += f32(residual[at]); }
  if (params.relu != 0u) { v = max(v, 0.0); }
  y[at] = T(v);
}

@compute @workgroup_size(256)
fn forward_depthwise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let o = i % params.cout;
  let tile = i / params.cout;
  let pixel = 4u * tile; // of n * out_height * out_width
  if (pixel >= params.n * params.out_height * params.out_width) { return; }
  let row = pixel / params.out_width;
  let p0 = vec3u(row / params.out_height, row % params.out_height, pixel % params.out_width);
  let p1 = next(p0);
  let p2 = next(p1);
  let p3 = next(p2);
  // Of the four pixels, input coordinates under the first tap:
  let images = vec4i(vec4u(p0.x, p1.x, p2.x, p3.x) * params.height);
  let rows = vec4i(first_row(p0), first_row(p1), first_row(p2), first_row(p3));
  let columns = vec4i(vec4u(p0.z, p1.z, p2.z, p3.z) * params.stride_w) - i32(params.pad_left);
  let c = o / (params.cout / params.cin);
  var acc = vec4f();
  var weight = o * params.kh * params.kw;
  for (var kh = 0u; kh < params.kh; kh++) {
    let ih = rows + i32(kh * params.dilation_h);
    let row_inside = (ih >= vec4i()) & (ih < vec4i(i32(params.height)));
    for (var kw = 0u; kw < params.kw; kw++) {
      let iw = columns + i32(kw * params.dilation_w);
      let inside = row_inside & (iw >= vec4i()) & (iw < vec4i(i32(params.width)));
      if (any(inside)) {
        let at = select(vec4u(), (vec4u((images + ih) * i32(params.width) + iw) * params.cin) + c, inside);
        let v = vec4f(f32(x[at.x]), f32(x[at.y]), f32(x[at.z]), f32(x[at.w]));
        acc += select(vec4f(), v, inside) * f32(w[weight]);
      }
      weight++;
    }
  }
  if (params.has_bias != 0u) { acc += f32(bias[o]); }
  let target_at = pixel * params.cout + o;
  store(target_at, acc.x);
  if (p1.x < params.n) { store(target_at + params.cout, acc.y); }
  if (p2.x < params.n) { store(target_at + 2u * params.cout, acc.z); }
  if (p3.x < params.n) { store(target_at + 3u * params.cout, acc.w); }
}
