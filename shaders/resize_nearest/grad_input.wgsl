// dx[n, iy, ix, c] = sum of dy over the outputs that copy this pixel: oy from ceil(iy * outH / h) up to, not including,
// ceil((iy + 1) * outH / h), and ox alike. One thread owns one channel of one input pixel.
alias T = f32;
struct Params { images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>; // [images, outH, outW, channels]
@group(0) @binding(1) var<storage, read_write> dx: array<T>; // [images, h, w, channels]
@group(0) @binding(2) var<uniform> params: Params;

// ceil(i * out / size)
fn first_output(i: u32, size: u32, out: u32) -> u32 { return (i * out + size - 1u) / size; }

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.w * lanes || row >= params.images * params.h) { return; }
  let ix = id.x / lanes;
  let lane = id.x - ix * lanes;
  let iy = row % params.h;
  let image = row / params.h * params.outH;
  let bottom = first_output(iy + 1u, params.h, params.outH);
  let left = first_output(ix, params.w, params.outW);
  let right = first_output(ix + 1u, params.w, params.outW);
  var sum = 0.0;
  for (var oy = first_output(iy, params.h, params.outH); oy < bottom; oy++) {
    for (var ox = left; ox < right; ox++) {
      sum += f32(dy[((image + oy) * params.outW + ox) * lanes + lane]);
    }
  }
  dx[row * params.w * lanes + id.x] = T(sum);
}
