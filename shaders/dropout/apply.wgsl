// y[i] = x[i] factor where word i of the stream >= threshold, else 0; word 4 b + j is word j of Philox block counter + b.
// One thread per block of four words. The backward pass runs the same kernel on dy.
alias T = f32;
struct Params {
  count: u32,
  key0: u32, key1: u32,
  counter0: u32, counter1: u32,
  threshold: u32,
  factor: f32,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

// The upper 32 bits of a * b, by halves of 16 bits: no partial sum exceeds 32 bits.
fn high_word(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

// Philox 4x32-10, Salmon et al. 2011: block `index` of the stream.
fn philox(index: u32) -> vec4u {
  let low = params.counter0 + index;
  var c = vec4u(low, params.counter1 + select(0u, 1u, low < index), 0u, 0u);
  var k = vec2u(params.key0, params.key1);
  for (var round = 0; round < 10; round++) {
    c = vec4u(
      high_word(0xcd9e8d57u, c.z) ^ c.y ^ k.x, 0xcd9e8d57u * c.z,
      high_word(0xd2511f53u, c.x) ^ c.w ^ k.y, 0xd2511f53u * c.x,
    );
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

@compute @workgroup_size(256)
fn apply(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  if (index >= (params.count + 3u) / 4u) { return; }
  let words = philox(index);
  let first = index * 4u;
  for (var j = 0u; j < min(4u, params.count - first); j++) {
    let i = first + j;
    y[i] = T(select(0.0, f32(x[i]) * params.factor, words[j] >= params.threshold));
  }
}
