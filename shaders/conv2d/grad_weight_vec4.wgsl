// partials[split, o, kh, kw, c] = sum over the split's rows (n, oh), and over ow, of dy[n, oh, ow, o] *
//   x[n, oh stride_h + kh dilation_h - pad_top, ow stride_w + kw dilation_w - pad_left, first c of o's group + c]
// with cin / groups and cout / groups multiples of 4. One thread owns one split, 4 output channels, one tap and 4 input
// channels: 2 vector loads feed 16 multiplications. It walks only the pixels for which its tap reads inside the map, so
// nothing is tested in the inner loop. Splits give enough threads and keep the sums short; reduce_partials adds them.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, rows_per_split: u32, splits: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

// The output columns [x, y) under which tap kw reads inside the map.
fn valid_columns(kw: u32) -> vec2i {
  let stride = i32(params.stride_w);
  let lead = i32(params.pad_left) - i32(kw * params.dilation_w); // the tap reads column ow stride - lead
  let last = i32(params.width) - 1 + lead;
  return vec2i(max(0, (lead + stride - 1) / stride), select(0, min(i32(params.out_width), last / stride + 1), last >= 0));
}

@compute @workgroup_size(256)
fn grad_weight_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let cin = params.cin / 4u; // in units of 4 channels, as is every index below
  let cout = params.cout / 4u;
  let group_cin = cin / params.groups;
  let taps = params.kh * params.kw;
  let c = i % group_cin;
  let tap = (i / group_cin) % taps;
  let o = (i / (group_cin * taps)) % cout;
  let split = i / (group_cin * taps * cout);
  if (split >= params.splits) { return; }
  let kh = tap / params.kw;
  let kw = tap % params.kw;
  let from_c = (o / (cout / params.groups)) * group_cin + c;
  let step = params.stride_w * cin;
  let columns = valid_columns(kw);
  let begin = split * params.rows_per_split;
  let end = min(begin + params.rows_per_split, params.n * params.out_height);
  var image = begin / params.out_height;
  var oh = begin % params.out_height;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var row = begin; row < end; row++) { // of n * out_height
    let ih = i32(oh * params.stride_h + kh * params.dilation_h) - i32(params.pad_top);
    if (ih >= 0 && ih < i32(params.height) && columns.x < columns.y) {
      let iw = u32(columns.x * i32(params.stride_w) + i32(kw * params.dilation_w) - i32(params.pad_left));
      var from_x = ((image * params.height + u32(ih)) * params.width + iw) * cin + from_c;
      var from_dy = (row * params.out_width + u32(columns.x)) * cout + o;
      for (var ow = columns.x; ow < columns.y; ow++) {
        let v = vec4f(x[from_x]);
        let d = vec4f(dy[from_dy]);
        acc0 += d.x * v;
        acc1 += d.y * v;
        acc2 += d.z * v;
        acc3 += d.w * v;
        from_x += step;
        from_dy += cout;
      }
    }
    oh++;
    if (oh == params.out_height) {
      oh = 0u;
      image++;
    }
  }
  let pitch = taps * group_cin;
  let at = (split * params.cout + 4u * o) * pitch + tap * group_cin + c;
  partials[at] = acc0;
  partials[at + pitch] = acc1;
  partials[at + 2u * pitch] = acc2;
  partials[at + 3u * pitch] = acc3;
}
