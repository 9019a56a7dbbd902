/** Memory of the reference backend: float64 for f32 and f16, 32-bit integers otherwise. */
export type NumberArray = Float64Array | Int32Array | Uint32Array;

/**
 * A kernel written for reading: the executable definition of what the others compute. Takes the decoded parameters, the
 * inputs and the outputs, in the order of the contract. Plain loops in float64; no cleverness.
 */
export type ReferenceKernel = (
  p: Readonly<Record<string, number>>,
  inputs: readonly NumberArray[],
  outputs: readonly NumberArray[],
) => void;

/** The kernels of one op by the part of their name after the dot. */
export type ReferenceOp = Readonly<Record<string, ReferenceKernel>>;
