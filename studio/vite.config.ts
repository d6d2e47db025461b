// Builds the studio into `build/`, which is committed: a machine without Node serves it all the same.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin, type ResolvedConfig } from "vite";

const ROOT = import.meta.dirname;
const SOURCES = [
  "generate-operations.js",
  "index.html",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "vite.config.ts",
];
const FOLDERS = ["src", "public", "../clients/operations/generated"];
const LICENCE = /^(licen[cs]e|copying|notice)(\.|$)/i;

/** Every file that the build is made of, in the order of their names. */
function sources(): string[] {
  const below = FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(ROOT, join(entry.parentPath, entry.name))),
  );
  return [...SOURCES, ...below].sort();
}

/** The licences of the packages that the page contains. */
function licences(modules: Iterable<string>): string {
  const folders = new Set<string>();
  for (const id of modules) {
    const found = /^.*\/node_modules\/(@[^/]+\/)?[^/]+(?=\/)/.exec(id.replace(/^\0/, ""));
    if (found) folders.add(found[0]);
  }
  return [...folders]
    .sort()
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      const file = readdirSync(folder).find((entry) => LICENCE.test(entry));
      const text = file ? readFileSync(join(folder, file), "utf8").trim() : "";
      return `${name} ${version} (${license})\n\n${text}`.trim();
    })
    .join(`\n\n${"-".repeat(80)}\n\n`);
}

/** Adds what the server and the tests read: licences, digests of the sources, compressed copies. */
function finish(): Plugin {
  let config: ResolvedConfig;
  let modules: string[] = [];
  return {
    name: "finish",
    configResolved: (resolved) => void (config = resolved),
    generateBundle(_, bundle) {
      modules = Object.values(bundle).flatMap((part) => (part.type === "chunk" ? part.moduleIds : []));
    },
    closeBundle() {
      const folder = resolve(ROOT, config.build.outDir);
      for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !/\.(js|css|svg)$/.test(entry.name)) continue;
        const path = join(entry.parentPath, entry.name);
        const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
        writeFileSync(`${path}.br`, brotliCompressSync(readFileSync(path), { params }));
      }
      writeFileSync(join(folder, "licences.txt"), licences(modules) + "\n");
      const digests = sources().map((path) => {
        const digest = createHash("sha256").update(readFileSync(join(ROOT, path))).digest("hex");
        return `${digest}  ${path}\n`;
      });
      writeFileSync(join(folder, "sources.sha256"), digests.join(""));
    },
  };
}

export default defineConfig({
  base: "/studio/",
  plugins: [svelte(), finish()],
  build: {
    outDir: "build",
    emptyOutDir: true,
    target: ["chrome123", "firefox128", "safari17.5"],
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        // All that the first view is made of in one file: on a slow line each further one costs a round trip.
        codeSplitting: { groups: [{ name: "studio", test: /src\/main\.ts$/ }] },
      },
    },
  },
});
