import { bytesPerElement, type DType } from "../../shape.js";
import type { View } from "../backend.js";
import type { PooledBuffer } from "./pool.js";

/** Where a buffer goes when nothing uses it any more. */
export interface Owner {
  give(buffer: PooledBuffer): void;
}

/** What a slot stands for. */
export class Memory {
  #held: PooledBuffer | null = null;

  constructor(
    readonly dtype: DType,
    /** As counted: what was asked for, rounded up. */
    readonly bytes: number,
    readonly owner: Owner,
  ) {}

  /** What is allocated while a step is captured has its buffer when the capture ends. */
  get held(): PooledBuffer {
    if (!this.#held) throw new Error("memory that has no buffer yet");
    return this.#held;
  }
  place(buffer: PooledBuffer): this {
    this.#held = buffer;
    return this;
  }
  release(): void {
    if (this.#held) this.owner.give(this.#held);
  }
}

/** In bytes. */
export const offsetOf = (view: View, memory: Memory): number => view.offset * bytesPerElement(memory.dtype);
export const sizeOfView = (view: View, memory: Memory): number => view.size * bytesPerElement(memory.dtype);
/** Copies, and ranges that are bound, are multiples of four bytes long. */
export const wholeWords = (bytes: number): number => Math.ceil(bytes / 4) * 4;
