import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { open } from "../device.js";
import { DeviceError } from "../errors.js";

/** Where the Vulkan loader looks for drivers. */
const ICD_FOLDER = "/usr/share/vulkan/icd.d";
const BACKPORTS = "/etc/apt/sources.list.d/lacuna-backports.sources";

/**
 * Makes sure that Dawn finds a Vulkan driver: the one that is there, else Mesa's software driver (lavapipe), else
 * Chromium's (SwiftShader), installed by apt where this process may do so (Linux, root). Debian 12's own Mesa 22.3 is
 * refused by Dawn; the one in its backports is not.
 * @returns whether WebGPU opens now. Where it does not, `log` has got the one command to type.
 */
export async function ensureVulkan(log: (line: string) => void): Promise<boolean> {
  if (await opens()) return true;
  if (process.platform !== "linux" || !existsSync("/usr/bin/apt-get")) {
    log(
      "No WebGPU adapter. Install a Vulkan driver (Linux), or use the platform's own (macOS: Metal, Windows: Direct3D 12).",
    );
    return false;
  }
  const plan = installPlan();
  if (process.getuid?.() !== 0) {
    log(
      `No WebGPU adapter. To set up software Vulkan, type:\n  sudo sh -c '${plan.map(([line]) => line).join(" && ")}'`,
    );
    return false;
  }
  log("No WebGPU adapter: setting up software Vulkan (Mesa's lavapipe) with apt-get …");
  if (plan.every(([, run]) => run()) && (await opens())) return true;
  log("That did not do: trying SwiftShader, from chromium-common …");
  if (
    apt("install", "-y", "--no-install-recommends", "libvulkan1", "chromium-common") &&
    offerSwiftShader() &&
    (await opens())
  ) {
    return true;
  }
  log("Neither installed. See what apt-get says to:  apt-get install mesa-vulkan-drivers libvulkan1");
  return false;
}

/** Chromium keeps SwiftShader to itself; a description in the loader's folder offers it to everyone. */
function offerSwiftShader(): boolean {
  const library = "/usr/lib/chromium/libvk_swiftshader.so";
  if (!existsSync(library)) return false;
  const icd = { file_format_version: "1.0.0", ICD: { library_path: library, api_version: "1.1.0" } };
  mkdirSync(ICD_FOLDER, { recursive: true });
  writeFileSync(`${ICD_FOLDER}/lacuna_swiftshader_icd.json`, `${JSON.stringify(icd, null, 2)}\n`);
  return true;
}

async function opens(): Promise<boolean> {
  try {
    (await open("webgpu")).dispose();
    return true;
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return false;
  }
}

/** What to do, as a shell line to show and as a step to take. */
function installPlan(): [line: string, run: () => boolean][] {
  const packages = ["mesa-vulkan-drivers", "libvulkan1"];
  const update: [string, () => boolean] = ["apt-get update", () => apt("update")];
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  if (!/^VERSION_CODENAME=bookworm$/m.test(release)) {
    const line = `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
    return [update, [line, () => apt("install", "-y", "--no-install-recommends", ...packages)]];
  }
  const source = backportsSource();
  const line = `apt-get install -y --no-install-recommends -t bookworm-backports ${packages.join(" ")}`;
  return [
    [
      `printf "${source.replaceAll("\n", "\\n")}" > ${BACKPORTS}`,
      () => {
        writeFileSync(BACKPORTS, source);
        return true;
      },
    ],
    update,
    [line, () => apt("install", "-y", "--no-install-recommends", "-t", "bookworm-backports", ...packages)],
  ];
}

/** The backports of the mirror that this machine already uses. */
function backportsSource(): string {
  const folder = "/etc/apt/sources.list.d";
  const files = [
    "/etc/apt/sources.list",
    ...(existsSync(folder) ? readdirSync(folder).map((f) => `${folder}/${f}`) : []),
  ];
  const text = files
    .filter((f) => /\.(list|sources)$/.test(f) && existsSync(f))
    .map((f) => readFileSync(f, "utf8"))
    .join("\n");
  const mirror =
    /^URIs:\s*(\S+\/debian\/?)\s*$/m.exec(text)?.[1] ?? /^deb\s+(?:\[[^\]]*\]\s+)?(\S+\/debian\/?)\s/m.exec(text)?.[1];
  const uri = mirror ?? "mirror+file:/etc/apt/mirrors/debian.list"; // the name that Debian's cloud images use
  const key = "/usr/share/keyrings/debian-archive-keyring.gpg";
  return `Types: deb\nURIs: ${uri}\nSuites: bookworm-backports\nComponents: main\nSigned-By: ${key}\n`;
}

function apt(...args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const { status, stderr } = spawnSync("apt-get", args, { env, encoding: "utf8", stdio: ["ignore", "ignore", "pipe"] });
  if (status !== 0) process.stderr.write(stderr);
  return status === 0;
}
