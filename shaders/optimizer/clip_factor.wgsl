// clip = [norm, min(1, limit / (norm + 1e-6))] with norm = sqrt(sum partials): PyTorch's clip_grad_norm_. The second
// stage of the norm: one workgroup, in fixed order. limit 0: the factor is 1.
struct Params { count: u32, limit: f32 }
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> clip: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn clip_factor(@builtin(local_invocation_index) j: u32) {
  var sum = 0.0;
  for (var i = j; i < params.count; i += 256u) { sum += partials[i]; }
  sums[j] = sum;
  workgroupBarrier();
  if (j == 0u) {
    var total = 0.0;
    for (var i = 0u; i < 256u; i++) { total += sums[i]; }
    let norm = sqrt(total);
    clip[0] = norm;
    clip[1] = select(1.0, min(1.0, params.limit / (norm + 1e-6)), params.limit > 0.0);
  }
}
