import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  decode,
  encode,
  loadTensors,
  readSafetensors,
  saveTensors,
  writeAtomic,
  writeSafetensors,
} from "../../src/checkpoint/index.js";
import { CheckpointError, DataError } from "../../src/errors.js";
import { Adam } from "../../src/optim/index.js";
import { dispose, Tensor } from "../../src/tensor.js";
import { allDevices, referenceDevice, values, webgpuDevice } from "../harness.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lacuna-checkpoint-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const caught = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return null;
};
const refusal = async (promise: Promise<unknown>): Promise<CheckpointError> => {
  const error = await caught(promise);
  expect(error).toBeInstanceOf(CheckpointError);
  return error as CheckpointError;
};

describe("writeAtomic", () => {
  test("writes text, bytes and pieces, and leaves no scratch file", async () => {
    const path = join(folder, "report.json");
    await writeAtomic(path, "grün");
    expect(readFileSync(path, "utf8")).toBe("grün");
    await writeAtomic(path, Uint8Array.of(1, 2, 3));
    expect([...readFileSync(path)]).toEqual([1, 2, 3]);
    await writeAtomic(path, [Uint8Array.of(4), new Uint8Array(0), Uint8Array.of(5, 6)]);
    expect([...readFileSync(path)]).toEqual([4, 5, 6]);
    expect(readdirSync(folder)).toEqual(["report.json"]);
  });

  test("keeps the mode of the old file", async () => {
    const path = join(folder, "shared");
    writeFileSync(path, "old");
    chmodSync(path, 0o664);
    await writeAtomic(path, "new");
    expect(statSync(path).mode & 0o777).toBe(0o664);
    expect(readFileSync(path, "utf8")).toBe("new");
  });

  test("follows a symbolic link and keeps it", async () => {
    mkdirSync(join(folder, "real"));
    const [target, link] = [join(folder, "real", "file"), join(folder, "link")];
    writeFileSync(target, "old");
    symlinkSync(target, link);
    await writeAtomic(link, "new");
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readFileSync(target, "utf8")).toBe("new");
    expect(readdirSync(join(folder, "real"))).toEqual(["file"]);
  });

  test("a failure midway leaves the old file and no scratch file", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "old");
    function* pieces() {
      yield Uint8Array.of(1, 2, 3);
      expect(readdirSync(folder).length).toBe(2); // the scratch file stands beside the target
      throw new Error("disk full");
    }
    expect(await caught(writeAtomic(path, pieces()))).toMatchObject({ message: "disk full" });
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["file"]);
  });

  test("refuses a missing folder, a folder and a pipe as target", async () => {
    expect(await caught(writeAtomic(join(folder, "none", "file"), "x"))).toMatchObject({ code: "ENOENT" });
    mkdirSync(join(folder, "folder"));
    expect(await caught(writeAtomic(join(folder, "folder"), "x"))).toBeInstanceOf(DataError);
    execFileSync("mkfifo", [join(folder, "pipe")]);
    expect(await caught(writeAtomic(join(folder, "pipe"), "x"))).toBeInstanceOf(DataError);
    expect(readdirSync(folder).sort()).toEqual(["folder", "pipe"]);
  });

  test.skipIf(process.getuid?.() === 0)("a folder that may not be written to keeps its file", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "old");
    chmodSync(folder, 0o500);
    expect(await caught(writeAtomic(path, "new"))).toMatchObject({ code: "EACCES" });
    chmodSync(folder, 0o700);
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["file"]);
  });

  test("passes over a scratch file that a dead process left", async () => {
    for (let i = 0; i < 200; i++) writeFileSync(join(folder, `.lacuna-${process.pid}-${i}.tmp`), "left");
    await writeAtomic(join(folder, "file"), "new");
    expect(readFileSync(join(folder, "file"), "utf8")).toBe("new");
    expect(readdirSync(folder).length).toBe(201);
  });

  test("of many writers at once one wins whole", async () => {
    const path = join(folder, "file");
    const contents = [...Array(20).keys()].map((i) => `${i}`.repeat(10_000));
    await Promise.all(contents.map((text) => writeAtomic(path, text)));
    expect(contents).toContain(readFileSync(path, "utf8"));
    expect(readdirSync(folder)).toEqual(["file"]);
  });
});

describe("files", () => {
  const tensors = new Map([["x", { dtype: "F32" as const, shape: [2, 3], data: Float32Array.from(values(6)) }]]);

  test("round trip; the same as in memory", async () => {
    const path = join(folder, "x.safetensors");
    const metadata = new Map([["step", "12"]]);
    await writeSafetensors(path, tensors, metadata);
    expect(readFileSync(path)).toEqual(Buffer.from(encode(tensors, metadata)));
    expect(await readSafetensors(path)).toEqual({ tensors, metadata });
  });

  test("agrees with the reader in memory on the reference implementation's file", async () => {
    const golden = new URL("../golden/checkpoint.safetensors", import.meta.url);
    expect(await readSafetensors(golden.pathname)).toEqual(decode(readFileSync(golden)));
  });

  test("every truncation is refused under the file's name", async () => {
    const [path, file] = [join(folder, "x"), encode(tensors)];
    for (let length = 0; length < file.length; length++) {
      writeFileSync(path, file.subarray(0, length));
      expect((await refusal(readSafetensors(path))).file).toBe(path);
    }
  });

  test("a missing file, a folder and a pipe are refused, and nobody waits", async () => {
    expect((await refusal(readSafetensors(join(folder, "none")))).cause).toMatchObject({ code: "ENOENT" });
    await refusal(readSafetensors(folder));
    execFileSync("mkfifo", [join(folder, "pipe")]);
    await refusal(readSafetensors(join(folder, "pipe")));
  });

  test("a pickle's name and magic are told apart from a checkpoint", async () => {
    const path = join(folder, "model.pth");
    writeFileSync(path, Uint8Array.of(0x80, 0x02, ...new Array(1000).fill(0)));
    expect((await refusal(readSafetensors(path))).hint).toContain("weights_only=True");
  });

  test("a failing write leaves the old file and is a CheckpointError", async () => {
    const path = join(folder, "x");
    await writeSafetensors(path, tensors);
    const before = readFileSync(path);
    await refusal(writeSafetensors(path, new Map([["x", { dtype: "F32", shape: [9], data: new Float32Array(1) }]])));
    expect(readFileSync(path)).toEqual(before);
    await refusal(writeSafetensors(join(folder, "none", "x"), tensors));
    mkdirSync(join(folder, "folder"));
    await refusal(writeSafetensors(join(folder, "folder"), tensors));
    expect(readdirSync(folder).sort()).toEqual(["folder", "x"]);
    expect(existsSync(join(folder, "none"))).toBe(false);
  });
});

describe("tensors", () => {
  test("a model comes back bit by bit, on every device", async () => {
    for (const device of await allDevices()) {
      const path = join(folder, device.name);
      const model = new Map([
        [
          "conv.weight",
          Tensor.from(
            device,
            values(24, 3).map((v) => v / 3),
            [2, 3, 2, 2],
          ),
        ],
        ["count", Tensor.from(device, [2 ** 32 - 1], [], "u32")],
        ["offset", Tensor.from(device, [-5, 6], [2], "i32")],
      ]);
      if (device.supports("f16")) model.set("half", Tensor.from(device, [0.1, 2, 3], [3], "f16"));
      await saveTensors(path, model, new Map([["name", "tiny"]]));
      const copy = new Map([...model].map(([name, t]) => [name, Tensor.zeros(device, t.shape, t.dtype)]));
      const report = await loadTensors(path, copy);
      expect(report).toEqual({ missing: [], extra: [], misshapen: [], metadata: new Map([["name", "tiny"]]) });
      for (const [name, t] of model) expect(await copy.get(name)!.data(), name).toEqual(await t.data());
      const { tensors } = await readSafetensors(path);
      expect(tensors.get("conv.weight")!.dtype).toBe(device.name === "reference" ? "F64" : "F32");
      dispose(model, copy);
    }
  });

  test("saves what the tensors hold when it is called", async () => {
    for (const device of await allDevices()) {
      const t = Tensor.from(device, [1, 2]);
      const saving = saveTensors(join(folder, "x"), new Map([["t", t]]));
      t.assign([3, 4]);
      await saving;
      expect([...(await readSafetensors(join(folder, "x"))).tensors.get("t")!.data]).toEqual([1, 2]);
      t.dispose();
    }
  });

  test("weights of one device load on the other", async () => {
    const gpu = await webgpuDevice();
    if (!gpu) return;
    const [a, b] = [Tensor.from(referenceDevice(), values(10)), Tensor.zeros(gpu, [10])];
    await saveTensors(join(folder, "x"), new Map([["w", a]]));
    await loadTensors(join(folder, "x"), new Map([["w", b]]));
    expect([...(await b.data())]).toEqual([...(await a.data())]);
    dispose(a, b);
  });

  test("another model: refused with the names, and no tensor has changed", async () => {
    const device = referenceDevice();
    const saved = new Map([
      ["same", Tensor.ones(device, [2])],
      ["reshaped", Tensor.ones(device, [2, 3])],
      ["retyped", Tensor.ones(device, [1], "i32")],
      ["gone", Tensor.ones(device, [1])],
    ]);
    const path = join(folder, "x");
    await saveTensors(path, saved);
    const into = new Map([
      ["same", Tensor.zeros(device, [2])],
      ["reshaped", Tensor.zeros(device, [3, 2])],
      ["retyped", Tensor.zeros(device, [1])],
      ["new", Tensor.zeros(device, [1])],
    ]);
    const error = await refusal(loadTensors(path, into));
    expect([...error.keys].sort()).toEqual(["gone", "new", "reshaped", "retyped"]);
    expect(error.file).toBe(path);
    for (const t of into.values()) expect((await t.data()).every((v) => v === 0)).toBe(true);

    const report = await loadTensors(path, into, { strict: false });
    expect(report).toMatchObject({ missing: ["new"], extra: ["gone"], misshapen: ["reshaped", "retyped"] });
    expect([...(await into.get("same")!.data())]).toEqual([1, 1]);
    expect([...(await into.get("reshaped")!.data())]).toEqual([0, 0, 0, 0, 0, 0]);
    dispose(saved, into);
  });

  test("integers that do not fit: refused, and no tensor has changed", async () => {
    const device = referenceDevice();
    const path = join(folder, "x");
    await writeSafetensors(
      path,
      new Map([
        ["a", { dtype: "F32", shape: [1], data: Float32Array.of(1) }],
        ["b", { dtype: "I32", shape: [1], data: Int32Array.of(-1) }],
      ]),
    );
    const into = new Map([
      ["a", Tensor.zeros(device, [1])],
      ["b", Tensor.zeros(device, [1], "u32")],
    ]);
    expect((await refusal(loadTensors(path, into, { strict: false }))).keys).toEqual(["b"]);
    expect(await into.get("a")!.item()).toBe(0);
    dispose(into);
  });

  test("an optimiser's state, filled in place, continues with the same bits", async () => {
    for (const device of await allDevices()) {
      const path = join(folder, device.name);
      const step = (optimizer: Adam, t: number) => {
        using gradient = Tensor.from(device, values(10, 40 + t));
        optimizer.step([gradient]);
      };
      const w = new Map([["w", Tensor.from(device, values(10))]]);
      using whole = new Adam([{ name: "all", parameters: w, lr: 0.1 }]);
      for (let t = 0; t < 3; t++) step(whole, t);
      await saveTensors(path, new Map([...w, ...whole.state().tensors]), new Map([["step", `${whole.state().step}`]]));
      for (let t = 3; t < 6; t++) step(whole, t);

      const again = new Map([["w", Tensor.zeros(device, [10])]]);
      using resumed = new Adam([{ name: "all", parameters: again, lr: 0.1 }]);
      const { tensors } = resumed.state();
      const { metadata } = await loadTensors(path, new Map([...again, ...tensors]));
      resumed.load({ tensors, step: Number(metadata.get("step")) });
      for (let t = 3; t < 6; t++) step(resumed, t);
      expect(await again.get("w")!.data()).toEqual(await w.get("w")!.data());
      dispose(w, again);
    }
  });
});
