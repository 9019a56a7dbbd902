import type { Tensor } from "../tensor.js";
import { atLeastZero, type ParameterGroup } from "./optimizer.js";

export interface GroupOptions {
  readonly lr: number;
  /** Factor on the head's learning rate. Default 10. */
  readonly headFactor?: number;
  /** For tensors of rank 2 and more. Default 0. */
  readonly weightDecay?: number;
  /** Which names belong to the head: what was not pretrained. Default: none. */
  readonly isHead?: (name: string) => boolean;
}

/**
 * The customary groups of a segmentation network: the head learns `headFactor` times faster, and norms, biases and
 * learned loss weights (everything of rank 0 or 1) do not decay. Groups without parameters are left out.
 * @throws ArgumentError where a rate is negative or not finite.
 */
export function parameterGroups(
  parameters: ReadonlyMap<string, Tensor>,
  { lr, headFactor = 10, weightDecay = 0, isHead = () => false }: GroupOptions,
): ParameterGroup[] {
  atLeastZero("parameterGroups", "headFactor", headFactor);
  const groups = [
    { name: "body", head: false, decays: true },
    { name: "bodyWithoutDecay", head: false, decays: false },
    { name: "head", head: true, decays: true },
    { name: "headWithoutDecay", head: true, decays: false },
  ];
  return groups
    .map(({ name, head, decays }) => ({
      name,
      parameters: new Map([...parameters].filter(([key, t]) => isHead(key) === head && t.rank > 1 === decays)),
      lr: head ? lr * headFactor : lr,
      weightDecay: decays ? weightDecay : 0,
    }))
    .filter((group) => group.parameters.size > 0);
}
