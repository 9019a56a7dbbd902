// y[n, oh, ow, o] = relu(residual[n, oh, ow, o] + bias[o] + sum over kh, kw, c of
//   x[n, oh stride_h + kh dilation_h - pad_top, ow stride_w + kw dilation_w - pad_left, first c of o's group + c]
//   * wt[kh, kw, c, o])
// with cin / groups and cout / groups multiples of 4. One thread owns 4 consecutive pixels and 4 output channels: 8
// vector loads feed 64 multiplications. Neighbouring threads share pixels and read neighbouring weights. Addresses and
// bounds are worked out once per tap; a tap that falls outside for all four pixels (most taps of a dilated kernel on a
// small map) costs nothing more. A pixel whose tap falls outside reads element 0 and multiplies it by 0: on lavapipe that
// is faster than selecting.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, has_bias: u32, has_residual: u32, relu: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> wt: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<T>>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<T>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<T>>;
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

// acc + v.x w0 + v.y w1 + v.z w2 + v.w w3
fn accumulate(acc: vec4f, v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  var sum = acc;
  sum += v.x * w0;
  sum += v.y * w1;
  sum += v.z * w2;
  sum += v.w * w3;
  return sum;
}

// relu(sum + residual), where they are asked for
fn store(at: u32, sum: vec4f) {
  var v = sum;
  if (params.has_residual != 0u) { v += vec4f(residual[at]); }
  if (params.relu != 0u) { v = max(v, vec4f()); }
  y[at] = vec4<T>(v);
}

@compute @workgroup_size(256)
fn forward_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let quads = params.cout / 4u;
  let o = i % quads; // in units of 4 channels, as is every index below
  let tile = i / quads;
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
  let cin = params.cin / 4u;
  let group_cin = cin / params.groups;
  let first = (o / (quads / params.groups)) * group_cin;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var kh = 0u; kh < params.kh; kh++) {
    let ih = rows + i32(kh * params.dilation_h);
    let row_inside = (ih >= vec4i()) & (ih < vec4i(i32(params.height)));
    for (var kw = 0u; kw < params.kw; kw++) {
      let iw = columns + i32(kw * params.dilation_w);
      let inside = row_inside & (iw >= vec4i()) & (iw < vec4i(i32(params.width)));
      if (!any(inside)) { continue; }
      let at = select(vec4u(), (vec4u((images + ih) * i32(params.width) + iw) * cin) + first, inside);
      let keep = select(vec4f(), vec4f(1.0), inside);
      var weights = (kh * params.kw + kw) * group_cin * 4u * quads + o;
      for (var c = 0u; c < group_cin; c++) {
        let w0 = vec4f(wt[weights]);
        let w1 = vec4f(wt[weights + quads]);
        let w2 = vec4f(wt[weights + 2u * quads]);
        let w3 = vec4f(wt[weights + 3u * quads]);
        acc0 = accumulate(acc0, keep.x * vec4f(x[at.x + c]), w0, w1, w2, w3);
        acc1 = accumulate(acc1, keep.y * vec4f(x[at.y + c]), w0, w1, w2, w3);
        acc2 = accumulate(acc2, keep.z * vec4f(x[at.z + c]), w0, w1, w2, w3);
        acc3 = accumulate(acc3, keep.w * vec4f(x[at.w + c]), w0, w1, w2, w3);
        weights += 4u * quads;
      }
    }
  }
  var offset = vec4f();
  if (params.has_bias != 0u) { offset = vec4f(bias[o]); }
  let target_at = pixel * quads + o;
  store(target_at, acc0 + offset);
  if (p1.x < params.n) { store(target_at + quads, acc1 + offset); }
  if (p2.x < params.n) { store(target_at + 2u * quads, acc2 + offset); }
  if (p3.x < params.n) { store(target_at + 3u * quads, acc3 + offset); }
}
