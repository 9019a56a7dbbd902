// Node module hooks: `x.js` is `x.ts` where only that exists, and TypeScript loses its types on the way in. What was
// compiled is kept by the hash of its source, so that of many threads only the first waits for the compiler.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const compiled = new URL("node_modules/.cache/lacuna-threads/", root);

export async function resolve(specifier, context, next) {
  const url = /^(\.|file:)/.test(specifier) ? new URL(specifier, context.parentURL) : null;
  if (url?.href.startsWith(root.href) && url.pathname.endsWith(".js") && !existsSync(url)) {
    const source = new URL(url.href.replace(/\.js$/, ".ts"));
    if (existsSync(source)) return { url: source.href, format: "module", shortCircuit: true };
  }
  return next(specifier, context);
}

export async function load(url, context, next) {
  if (!url.endsWith(".ts")) return next(url, context);
  const source = await readFile(new URL(url), "utf8");
  const kept = new URL(
    `${createHash("sha256").update(`${process.version} ${url}\n${source}`).digest("hex")}.mjs`,
    compiled,
  );
  return {
    format: "module",
    source: (await readFile(kept, "utf8").catch(() => null)) ?? (await compile(url, source, kept)),
    shortCircuit: true,
  };
}

async function compile(url, source, kept) {
  const { default: ts } = await import("typescript");
  const { outputText } = ts.transpileModule(source, {
    fileName: fileURLToPath(url),
    compilerOptions: { target: "ES2022", module: "ESNext", inlineSourceMap: true },
  });
  await mkdir(compiled, { recursive: true });
  const part = new URL(`${kept.href}.${process.pid}.${Math.random()}`);
  await writeFile(part, outputText);
  await rename(part, kept);
  return outputText;
}
