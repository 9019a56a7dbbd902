import { loadTensors, readSafetensors, saveTensors } from "../checkpoint/index.js";
import { type Dataset, type TileType, tileTypes } from "../data/dataset.js";
import type { DomainStatistics } from "../data/normalise.js";
import type { Device } from "../device.js";
import { CheckpointError, ConfigError } from "../errors.js";
import type { DeepLabV3Plus } from "../models/index.js";
import type { Tensor } from "../tensor.js";
import { resolveConfig, type TrainConfig } from "./config.js";
import type { History } from "./history.js";
import { buildModel, Session } from "./session.js";

/** Name of a run's checkpoint in its folder. */
export const CHECKPOINT = "checkpoint.safetensors";

/** What a checkpoint holds beside tensors; JSON in the file's metadata. */
export interface RunState {
  readonly config: TrainConfig;
  readonly classes: readonly string[];
  readonly ignoreIndex: number;
  /** Bands and element type of the images. */
  readonly bands: number;
  readonly type: TileType;
  readonly statistics: DomainStatistics;
  /** Steps taken. */
  readonly step: number;
  /** Random blocks that dropout has drawn. */
  readonly dropout: number;
  /** Samples that each loader has handed out. */
  readonly positions: { readonly source: number; readonly target: number | null };
  readonly optimiserSteps: number;
  readonly history: History;
}

const KEY = "lacuna.run";

/** Every tensor that a run must carry over, by name. */
function tensorsOf(session: Session): Map<string, Tensor> {
  const all = new Map<string, Tensor>();
  const put = (prefix: string, tensors: ReadonlyMap<string, Tensor>) => {
    for (const [name, t] of tensors) all.set(`${prefix}.${name}`, t);
  };
  put("model", session.model.parameters());
  put("model", session.model.buffers());
  if (session.discriminator) {
    put("discriminator", session.discriminator.parameters());
    put("discriminator", session.discriminator.buffers());
  }
  put("lossWeights", session.losses.parameters());
  if (session.ema) {
    const nameOf = new Map([...all].map(([name, t]) => [t, name]));
    put("ema", session.ema.state(session.optimiser.parameters.map((t) => nameOf.get(t) ?? "")));
  }
  put("optimiser", session.optimiser.state().tensors);
  return all;
}

/**
 * Writes the whole run, atomically: the file is the old one or the new one, never half of it.
 * @throws CheckpointError where it cannot be written.
 */
export async function saveRun(file: string, session: Session, history: History): Promise<void> {
  const state: RunState = {
    config: session.config,
    classes: session.dataset.classes,
    ignoreIndex: session.dataset.ignoreIndex,
    bands: session.dataset.bands,
    type: session.dataset.type,
    statistics: session.statistics,
    step: session.step,
    dropout: session.model.generator.state().counter,
    positions: { source: session.source.position, target: session.target?.position ?? null },
    optimiserSteps: session.optimiser.state().step,
    history,
  };
  await saveTensors(file, tensorsOf(session), new Map([[KEY, JSON.stringify(state)]]));
}

/**
 * What the checkpoint says of its run, checked.
 * @throws CheckpointError where the file is damaged or holds no run of this program.
 */
export async function readRunState(file: string): Promise<RunState> {
  const text = (await readSafetensors(file)).metadata.get(KEY);
  if (text === undefined) throw new CheckpointError(file, "holds weights but no training run");
  try {
    const state = JSON.parse(text) as RunState; // checked below as far as it is used
    const counts = [
      state.step,
      state.dropout,
      state.optimiserSteps,
      state.positions.source,
      state.positions.target ?? 0,
    ];
    if (counts.some((n) => !Number.isSafeInteger(n) || n < 0)) throw new Error("a counter is not a whole number");
    if (!Array.isArray(state.classes) || state.classes.length < 2) throw new Error("it names no classes");
    if (!Number.isSafeInteger(state.bands) || state.bands < 1 || !tileTypes.includes(state.type)) {
      throw new Error("it does not say what its images are");
    }
    if (!Array.isArray(state.history.steps)) throw new Error("it has no history");
    for (const domain of ["source", "target"] as const) {
      const { mean, std } = state.statistics[domain];
      const isList = (v: unknown) => Array.isArray(v) && v.length === state.bands && v.every((x) => Number.isFinite(x));
      if (!isList(mean) || !isList(std) || !std.every((v) => v > 0)) throw new Error("its statistics are no numbers");
    }
    return { ...state, config: resolveConfig(state.config) };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(file, `its run cannot be read: ${why}`, [], { cause });
  }
}

/**
 * Continues a run where its checkpoint left it: the next step has the same bits as if it had never stopped.
 * @throws CheckpointError where the configuration or the classes differ from the checkpoint's.
 */
export async function resumeRun(
  file: string,
  device: Device,
  config: TrainConfig,
  dataset: Dataset,
): Promise<{ session: Session; history: History }> {
  const state = await readRunState(file);
  const changed = differences(state.config, config, "");
  if (changed.length > 0)
    throw new CheckpointError(
      file,
      "is a run of another configuration: continue it as it was, or use another folder",
      changed,
    );
  const [was, is] = [state.classes.join(", "), dataset.classes.join(", ")];
  if (was !== is) throw new CheckpointError(file, `is a run on the classes ${was}, not ${is}`);
  const [had, has] = [`${state.bands} bands, ${state.type}`, `${dataset.bands} bands, ${dataset.type}`];
  if (had !== has) throw new CheckpointError(file, `is a run on images of ${had}, not ${has}`);
  const session = await Session.start(device, config, dataset, state.statistics);
  try {
    await loadTensors(file, tensorsOf(session));
    session.optimiser.load({ tensors: session.optimiser.state().tensors, step: state.optimiserSteps });
    session.model.generator.reserve(state.dropout);
    session.source.position = state.positions.source;
    if (session.target) session.target.position = state.positions.target ?? 0;
    session.step = state.step;
  } catch (error) {
    session.dispose();
    throw error;
  }
  return { session, history: state.history };
}

/** Paths of entries that differ. */
function differences(a: unknown, b: unknown, path: string): string[] {
  const isGroup = (v: unknown): v is Record<string, unknown> =>
    typeof v === "object" && v !== null && !Array.isArray(v);
  if (isGroup(a) && isGroup(b)) {
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return keys.flatMap((key) => differences(a[key], b[key], path ? `${path}.${key}` : key));
  }
  const [was, is] = [JSON.stringify(a), JSON.stringify(b)];
  return was === is ? [] : [`${path}: was ${was}, is ${is}`];
}

/** A trained model as it is evaluated: the moving average of its weights where the run kept one. */
export interface TrainedModel extends Disposable {
  readonly model: DeepLabV3Plus;
  readonly run: RunState;
}

/**
 * Loads the model of a run, finished or not, for evaluation and prediction.
 * @throws CheckpointError where the file is damaged or holds another model than it says.
 */
export async function loadTrained(file: string, device: Device): Promise<TrainedModel> {
  const run = await readRunState(file);
  let model: DeepLabV3Plus;
  try {
    model = buildModel(device, run.config, run.classes.length, run.bands);
  } catch (cause) {
    if (cause instanceof ConfigError) throw new CheckpointError(file, cause.message, [], { cause });
    throw cause;
  }
  try {
    const averaged = run.config.ema === null ? "model" : "ema.model";
    const wanted = new Map([
      ...[...model.parameters()].map(([name, t]) => [`${averaged}.${name}`, t] as const),
      ...[...model.buffers()].map(([name, t]) => [`model.${name}`, t] as const),
    ]);
    const { missing, misshapen } = await loadTensors(file, wanted, { strict: false });
    const wrong = [...missing.map((name) => `missing: ${name}`), ...misshapen];
    if (wrong.length > 0) throw new CheckpointError(file, "does not hold the model that it describes", wrong);
    model.eval();
    return { model, run, [Symbol.dispose]: () => model.dispose() };
  } catch (error) {
    model.dispose();
    throw error;
  }
}
