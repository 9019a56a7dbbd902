// y[n, oy, ox, c] = x[n, floor(oy * h / outH), floor(ox * w / outW), c], in whole numbers.
// One thread owns four channels of one output pixel.
alias T = f32;
struct Params { images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [images, h, w, channels / 4]
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>; // [images, outH, outW, channels / 4]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels / 4u;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.outW * lanes || row >= params.images * params.outH) { return; }
  let ox = id.x / lanes;
  let lane = id.x - ox * lanes;
  let iy = row % params.outH * params.h / params.outH;
  let ix = ox * params.w / params.outW;
  y[row * params.outW * lanes + id.x] = x[((row / params.outH * params.h + iy) * params.w + ix) * lanes + lane];
}
