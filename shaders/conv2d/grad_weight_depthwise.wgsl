// partials[split, o, kh, kw] = sum over the split's rows (n, oh), and over ow, of dy[n, oh, ow, o] *
//   x[n, oh stride_h + kh dilation_h - pad_top, ow stride_w + kw dilation_w - pad_left, o / (cout / cin)]
// One thread owns one split, one tap and one output channel; neighbouring threads read neighbouring channels.
// It walks only the pixels for which its tap reads inside the map. reduce_partials adds the splits.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, rows_per_split: u32, splits: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

// The output columns [x, y) under which tap kw reads inside the map.
fn valid_columns(kw: u32) -> vec2i {
  let stride = i32(params.stride_w);
  let lead = i32(params.pad_left) - i32(kw * params.dilation_w); // the tap reads column ow stride - lead
  let last = i32(params.width) - 1 + lead;
  return vec2i(max(0, (lead + stride - 1) / stride), select(0, min(i32(params.out_width), last / stride + 1), last >= 0));
}

@compute @workgroup_size(256)
fn grad_weight_depthwise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let taps = params.kh * params.kw;
  let o = i % params.cout;
  let tap = (i / params.cout) % taps;
  let split = i / (params.cout * taps);
  if (split >= params.splits) { return; }
  let kh = tap / params.kw;
  let kw = tap % params.kw;
  let c = o / (params.cout / params.cin);
  let step = params.stride_w * params.cin;
  let columns = valid_columns(kw);
  let begin = split * params.rows_per_split;
  let end = min(begin + params.rows_per_split, params.n * params.out_height);
  var image = begin / params.out_height;
  var oh = begin % params.out_height;
  var acc = 0.0;
  for (var row = begin; row < end; row++) { // of n * out_height
    let ih = i32(oh * params.stride_h + kh * params.dilation_h) - i32(params.pad_top);
    if (ih >= 0 && ih < i32(params.height) && columns.x < columns.y) {
      let iw = u32(columns.x * i32(params.stride_w) + i32(kw * params.dilation_w) - i32(params.pad_left));
      var from_x = ((image * params.height + u32(ih)) * params.width + iw) * params.cin + c;
      var from_dy = (row * params.out_width + u32(columns.x)) * params.cout + o;
      for (var ow = columns.x; ow < columns.y; ow++) {
        acc += f32(dy[from_dy]) * f32(x[from_x]);
        from_x += step;
        from_dy += params.cout;
      }
    }
    oh++;
    if (oh == params.out_height) {
      oh = 0u;
      image++;
    }
  }
  partials[(split * params.cout + o) * taps + tap] = acc;
}
